//! Properties of every decoder and protocol under arbitrary input.
//!
//! Each function takes any bytes and panics when a promise is broken. `fuzz_targets` runs them under libFuzzer
//! (`cargo xtask fuzz`), `tests/smoke.rs` on the seeds and on mutations of them, with the ordinary toolchain.

#![allow(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]

mod args;
mod handshake;
mod msgpack;
mod packets;
mod payload;
mod proxy;
mod requests;
mod sessions;
mod websocket;

pub use args::args;
pub use handshake::handshake;
pub use msgpack::msgpack_packets;
pub use packets::socketio_packets;
pub use payload::polling_payload;
pub use proxy::proxy;
pub use requests::requests;
pub use sessions::{engine_session, plain_json_session, plain_session, socketio_session};
pub use websocket::{ws_frames, ws_inflate};

/// A check by its name, which is also that of its target and of its folder of seeds
pub type Check = (&'static str, fn(&[u8]));

/// All of them
pub const CHECKS: [Check; 13] = [
    ("args", args),
    ("engine_session", engine_session),
    ("handshake", handshake),
    ("msgpack_packets", msgpack_packets),
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

/// Makes a program of a check: a fuzzer under `cargo fuzz`, else one that runs it on the files it is given
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
