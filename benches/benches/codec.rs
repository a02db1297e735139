//! Encoding and decoding of events and arguments.
//!
//! Measured: encoding an event with each codec, with and without rendering a WebSocket frame; decoding a Socket.IO
//! packet to validated JSON text; reading and writing typed arguments, dynamic values, and raw JSON. Not measured: the
//! Engine.IO packet and the session (see `session`).

mod common;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput};
use roomcast_core::{Args, Bytes, Codec, Event, IntoArgs, Message, Namespace};
use roomcast_plain::Mode;
use roomcast_socketio::{DefaultCodec, PacketLimits, Parser};
use roomcast_transport_ws::WsWire;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use common::{event, settings, size_name, text};

const PAYLOADS: [usize; 2] = [64, 1024];

fn main() {
    let mut criterion = settings();
    encode(&mut criterion);
    decode(&mut criterion);
    arguments(&mut criterion);
    criterion.final_summary();
}

fn encode(criterion: &mut Criterion) {
    let codecs: [(&str, Arc<dyn Codec>); 3] =
        [("socket_io", DefaultCodec::shared()), ("plain", Mode::Plain.codec()), ("json", Mode::Json.codec())];
    let mut group = criterion.benchmark_group("codec/encode");
    for bytes in PAYLOADS {
        let event = event(bytes);
        group.throughput(Throughput::Bytes(bytes as u64));
        for (name, codec) in &codecs {
            group.bench_function(BenchmarkId::new(*name, size_name(bytes)), |bencher| {
                bencher.iter(|| codec.encode(&event));
            });
            group.bench_function(
                BenchmarkId::new(format!("{name}_and_render"), size_name(bytes)),
                |bencher| {
                    bencher.iter(|| codec.encode(&event).map(|frame| frame.wire(&WsWire)));
                },
            );
        }
        let attached = (&*text(16), Bytes::from(vec![7; bytes])).into_args().expect("both can be written");
        let attached = Event::new(Namespace::main(), "message", attached);
        group.bench_function(BenchmarkId::new("socket_io_attachment", size_name(bytes)), |bencher| {
            bencher.iter(|| codecs[0].1.encode(&attached));
        });
    }
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/decode");
    for bytes in PAYLOADS {
        let mut decoder = DefaultCodec::shared().decoder(&PacketLimits::default());
        let packet = Message::from(format!(r#"2["message","{}"]"#, text(bytes)));
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("socket_io", size_name(bytes)), |bencher| {
            bencher.iter(|| {
                let packet = decoder.decode(packet.clone()).expect("it is well formed");
                assert!(black_box(packet).is_some());
            });
        });

        let packet = r#"51-["message",{"_placeholder":true,"num":0}]"#;
        let attachment = Bytes::from(vec![7; bytes]);
        group.bench_function(BenchmarkId::new("socket_io_attachment", size_name(bytes)), |bencher| {
            bencher.iter(|| {
                decoder.decode(packet.into()).expect("it is well formed");
                let packet = decoder.decode(attachment.clone().into()).expect("it was announced");
                assert!(black_box(packet).is_some());
            });
        });
    }
}

#[derive(Serialize, Deserialize)]
struct Chat<'a> {
    room: &'a str,
    number: u64,
    tags: [u32; 4],
    text: &'a str,
}

fn arguments(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/arguments");
    for bytes in PAYLOADS {
        let text = text(bytes);
        let chat = Chat { room: "lobby", number: 7, tags: [1, 22, 333, 4444], text: &text };
        let args = (&chat).into_args().expect("it can be written");
        let value: Value = args.get(0).expect("it is JSON");
        let list = args.list().clone();
        group.throughput(Throughput::Bytes(list.len() as u64));
        let id = |name| BenchmarkId::new(name, size_name(bytes));

        group.bench_function(id("write_typed"), |bencher| bencher.iter(|| (&chat).into_args()));
        group.bench_function(id("write_value"), |bencher| bencher.iter(|| (&value).into_args()));
        group.bench_function(id("write_raw"), |bencher| {
            bencher.iter(|| Args::from_json(list.clone(), Vec::new()));
        });
        group.bench_function(id("read_typed"), |bencher| {
            bencher.iter(|| black_box(args.parse::<(Chat<'_>,)>().expect("it fits").0.number));
        });
        group.bench_function(id("read_value"), |bencher| {
            bencher.iter(|| args.parse::<(Value,)>().expect("it fits"));
        });
        group.bench_function(id("read_raw"), |bencher| {
            bencher.iter(|| black_box(args.parse::<(&RawValue,)>().expect("it fits").0.get().len()));
        });
    }
}
