//! In-memory transport and router, virtual time, and a conformance suite for each trait.
//!
//! Conformance tests for crates that implement a trait of `roomcast-core`, and in-memory parts for testing the others
//! without sockets. The suite belongs to the trait: an implementation runs it with one line.
//!
//! The feature `client` adds in-memory clients for applications that test their handlers, each a
//! `TestClient`. `socket` adds blocking clients on real sockets, and `wire` the frames that they write and read.

#![allow(clippy::exhaustive_enums, clippy::exhaustive_structs, reason = "tests build and match its types")]

mod answers;
mod chance;
#[cfg(feature = "client")]
mod client;
mod codec;
mod control;
mod exchange;
mod member;
pub mod pair;
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
