//! Every seam can be a trait object, which is what lets a deployment choose its parts by configuration

use std::sync::Arc;

use roomcast_core::{AnswerSink, Codec, Connection, FrameSink, Router, Session, Transport};

/// Compiles only while each of them can be a `dyn`, and can go where it has to go
#[test]
fn the_seams_are_object_safe_and_may_cross_threads() {
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
