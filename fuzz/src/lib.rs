//! Properties of every decoder and protocol under arbitrary input.
//!
//! Each function accepts any bytes and panics when a property is violated. `fuzz_targets` runs them under libFuzzer
//! (`cargo xtask fuzz`); `tests/smoke.rs` runs them on the seeds and mutations of them, with the stable toolchain.

#![allow(clippy::disallowed_methods, reason = "virtual time needs a start")]

mod args;
mod cluster;
mod handshake;
mod msgpack;
mod node;
mod node_cluster;
mod packets;
mod payload;
mod proxy;
mod requests;
mod sessions;
mod websocket;

pub use args::args;
pub use cluster::{cluster_bodies, cluster_messages};
pub use handshake::handshake;
pub use msgpack::msgpack_packets;
pub use node::node_messages;
pub use node_cluster::{node_sharded, node_streams};
pub use packets::socketio_packets;
pub use payload::polling_payload;
pub use proxy::proxy;
pub use requests::requests;
pub use sessions::{engine_session, plain_json_session, plain_session, socketio_session};
pub use websocket::{ws_frames, ws_inflate};

/// Name and function of a check; the name is also that of its target and its seed folder.
pub type Check = (&'static str, fn(&[u8]));

/// All checks.
pub const CHECKS: [Check; 18] = [
    ("args", args),
    ("cluster_bodies", cluster_bodies),
    ("cluster_messages", cluster_messages),
    ("engine_session", engine_session),
    ("handshake", handshake),
    ("msgpack_packets", msgpack_packets),
    ("node_messages", node_messages),
    ("node_sharded", node_sharded),
    ("node_streams", node_streams),
    ("plain_json_session", plain_json_session),
    ("plain_session", plain_session),
    ("polling_payload", polling_payload),
    ("proxy", proxy),
    ("requests", requests),
    ("socketio_packets", socketio_packets),
    ("socketio_session", socketio_session),
    ("ws_frames", ws_frames),
    ("ws_inflate", ws_inflate),
];

/// Defines the program of a check: a fuzz target under `cargo fuzz`, otherwise a program that checks the given files.
#[macro_export]
macro_rules! fuzzer {
    ($check:ident) => {
        #[cfg(fuzzing)]
        ::libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::$check(data));

        #[cfg(not(fuzzing))]
        fn main() -> ::std::io::Result<()> {
            for path in ::std::env::args_os().skip(1) {
                $crate::$check(&::std::fs::read(path)?);
            }
            Ok(())
        }
    };
}
