//! In-memory transport and router, virtual time, and a conformance suite for each trait.
//!
//! Conformance suites test crates that implement a trait of `roomcast-core`; a macro call of one line runs a suite. The
//! in-memory parts replace the other traits, so that tests need no sockets.
//!
//! The feature `cluster` adds a message engine in memory and the fault suite of clusters. `client` adds `TestClient`, an in-memory client for applications that test their handlers. `socket` adds
//! blocking clients on real sockets, and `wire` the frames that they write and read.

#![allow(clippy::exhaustive_enums, clippy::exhaustive_structs, reason = "tests build and match its types")]

mod answers;
#[cfg(feature = "client")]
mod client;
#[cfg(feature = "cluster")]
pub mod cluster;
mod codec;
mod control;
mod exchange;
mod member;
pub mod pair;
pub mod recovery;
mod rng;
pub mod router;
pub mod session;
mod sink;
#[cfg(feature = "socket")]
pub mod socket;
pub mod transport;
#[cfg(feature = "wire")]
pub mod wire;

pub use answers::AnswerLog;
#[cfg(feature = "client")]
pub use client::{Disconnected, NotConnected, Step, TestClient, TestClientBuilder, TestEvent, TestKind};
pub use codec::TextCodec;
pub use control::{ControlProbe, RoomLog};
pub use exchange::{Answer, Answered, BodyFeed, ExchangeBuilder};
pub use member::MemberProbe;
pub use pair::Pair;
pub use router::MemoryRouter;
pub use sink::MemorySink;
