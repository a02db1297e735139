//! Cost of compression in a broadcast, shared and per recipient.
//!
//! A kilobyte of JSON is sent to plain clients. `plain` is uncompressed, `shared` is compressed once for all
//! recipients, `alone` is compressed for each recipient in its own context. Every recipient is a connection of the
//! WebSocket transport as a server opens it, on a stream that accepts all bytes. The figures include everything but
//! system calls.

mod common;

use std::hint::black_box;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use criterion::{BenchmarkId, SamplingMode, Throughput};
use roomcast_core::{
    ByteString, Connection, Delivery, Exchange, FlushList, Flusher, Frame, Outbox, Overflow, Responder,
    Transport, Upgrade, Upgraded,
};
use roomcast_transport_ws::{Compression, WebSocket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use common::settings;

const MEMBERS: [usize; 2] = [100, 1_000];

fn main() {
    let mut criterion = settings().sample_size(10);
    let kept = Compression::new().context_takeover(true).max_context_memory(1 << 30);
    let contenders = [
        ("plain", WebSocket::new()),
        ("shared", WebSocket::new().compression(Compression::new())),
        ("alone", WebSocket::new().compression(kept)),
    ];
    for (name, transport) in contenders {
        for members in MEMBERS {
            let hall = Hall::of(members, &transport);
            let mut group = criterion.benchmark_group(format!("deflate/{name}"));
            group.throughput(Throughput::Elements(members as u64)).sampling_mode(SamplingMode::Flat);
            group.bench_function(BenchmarkId::new("1KiB_json", members), |bencher| {
                let json = json();
                bencher.iter(|| hall.tell(&json));
            });
        }
    }
    criterion.final_summary();
}

/// Open connections with their outboxes.
struct Hall {
    flush: FlushList,
    members: Vec<(Outbox, Box<dyn Connection>)>,
}

impl Hall {
    fn of(members: usize, transport: &WebSocket) -> Self {
        let flush = FlushList::new();
        let members = (0..members).map(|_| open(transport, &flush)).collect();
        Self { flush, members }
    }

    fn tell(&self, json: &ByteString) {
        let frame = Frame::new(json.clone());
        for (outbox, _) in &self.members {
            let _ = outbox.push(frame.clone(), Delivery::Reliable, Overflow::Close);
        }
        drop(frame);
        Flusher::new(self.flush.clone()).write_all();
    }
}

fn open(transport: &WebSocket, flush: &FlushList) -> (Outbox, Box<dyn Connection>) {
    let (request, _) = http::Request::get("/")
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-extensions", "permessage-deflate; client_max_window_bits")
        .body(())
        .expect("a request")
        .into_parts();
    let (respond, _answer) = Responder::new();
    let upgraded = async { Ok(Upgraded { stream: Box::new(Drain), read_buffer: Default::default() }) };
    let exchange = Exchange {
        request: Arc::new(request),
        body: Default::default(),
        respond,
        upgrade: Some(Upgrade::new(upgraded)),
        subprotocol: None,
    };
    let mut connection = transport.open(exchange).expect("a handshake");
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let Poll::Ready(Ok(sink)) = connection.poll_open(&mut cx) else { panic!("the stream is there") };
    let outbox = Outbox::new(1 << 20, flush.clone());
    outbox.set_sink(sink);
    (outbox, connection)
}

/// Creates a kilobyte of JSON: a list of small objects with some repetition, above the compression threshold.
fn json() -> ByteString {
    let mut state = 1_u64;
    let mut text = String::from("[");
    while text.len() < 1024 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (id, user, price) = (state >> 40, state >> 58, state >> 33 & 0xfff);
        text += &format!(r#"{{"id":{id},"user":"user{user}","price":{price},"open":true}},"#);
    }
    text.pop();
    (text + "]").into()
}

/// Stream that accepts all bytes.
struct Drain;

impl AsyncRead for Drain {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Drain {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(black_box(bytes).len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
