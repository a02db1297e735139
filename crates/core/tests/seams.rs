//! Object safety of the pluggable traits, which lets a deployment choose its parts by configuration.

use std::sync::Arc;

use roomcast_core::{AnswerSink, Codec, Connection, FrameSink, Router, Session, Transport};

/// Compiles only while each trait is object safe and its objects can cross threads.
#[test]
fn traits_are_object_safe_and_send() {
    fn sendable<T: Send + ?Sized>() {}
    fn shareable<T: Send + Sync + ?Sized>() {}
    shareable::<Arc<dyn Transport>>();
    shareable::<Arc<dyn Router>>();
    shareable::<Arc<dyn Codec>>();
    shareable::<Arc<dyn AnswerSink>>();
    sendable::<Box<dyn Connection>>();
    sendable::<Box<dyn FrameSink>>();
    sendable::<Box<dyn Session>>();
}
