//! Shared benchmark code: settings, members, and a write half that copies each frame.

// Each benchmark is a separate program and uses a part of this module.
#![allow(dead_code)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use criterion::Criterion;
use roomcast_core::{
    AckTable, ByteString, Codec, ConnectionError, Event, FlushList, Frame, FrameSink, IntoArgs, Member,
    MemberKey, Namespace, Outbox, Readiness, SocketId,
};
use roomcast_transport_ws::WsWire;

/// Returns settings for short runs, which show changes of ten percent.
pub(crate) fn settings() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args()
}

/// Write half that copies each frame once, in place of the kernel's copy.
///
/// Like the WebSocket write half, it renders a shared frame once and writes into a buffer per thread.
#[derive(Debug)]
pub(crate) struct CopySink;

thread_local! {
    static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that the WebSocket write half writes at once.
const CORK: usize = 64 * 1024;

impl FrameSink for CopySink {
    fn poll_send(
        &mut self,
        _: &mut Context<'_>,
        batch: &mut VecDeque<Frame>,
    ) -> Result<Readiness, ConnectionError> {
        WRITTEN.with_borrow_mut(|written| {
            for frame in batch.drain(..) {
                if written.len() >= CORK {
                    black_box(&*written);
                    written.clear();
                }
                written.extend_from_slice(&frame.wire(&WsWire));
            }
            black_box(&*written);
            written.clear();
        });
        Ok(Readiness::Ready)
    }
}

/// Creates a member with an empty outbox that is ready to send.
pub(crate) fn member(number: usize, codec: &Arc<dyn Codec>, flush: &FlushList) -> Member {
    let outbox = Outbox::new(1 << 20, flush.clone());
    outbox.set_sink(Box::new(CopySink));
    let id = SocketId::new(format!("socket-{number}"));
    Member {
        key: MemberKey::next(),
        id,
        codec: codec.clone(),
        outbox,
        acks: Some(AckTable::default()),
        control: None,
    }
}

/// Creates the event `message` with one string of this size, which clients of every kind support.
pub(crate) fn event(bytes: usize) -> Event {
    let args = text(bytes).into_args().expect("a string can be written");
    Event::new(Namespace::main(), "message", args)
}

/// Creates text without characters to escape.
pub(crate) fn text(bytes: usize) -> ByteString {
    "The quick brown fox jumps over the lazy dog. ".chars().cycle().take(bytes).collect::<String>().into()
}

/// Formats a size for the name of a benchmark.
pub(crate) fn size_name(bytes: usize) -> String {
    if bytes >= 1024 { format!("{}KiB", bytes / 1024) } else { format!("{bytes}B") }
}
