//! Tokio tasks for servers composed of Roomcast's parts.
//!
//! `roomcast-core` and the protocols do no I/O, spawn nothing and read no clock. This crate runs them:
//!
//! - [`flush`] is the task that writes the frames queued for the clients of one runtime or thread;
//! - [`Driver`] runs one [`Session`](roomcast_core::Session) over one [`Connection`](roomcast_core::Connection) and
//!   returns the client's requests one at a time;
//! - [`store_sessions`] is the task that writes changed sessions to a store outside the process;
//! - [`Stall`] measures the progress of a client that reads slowly, for custom drivers.
//!
//! `roomcast-server` is built on [`flush`] and [`Stall`]; its driver also moves sessions between transports and runs
//! handlers. An echo server without it:
//!
//! ```
//! use roomcast_core::{Event, FlushList, Namespace, SocketId, Transport};
//! use roomcast_plain::{Mode, PlainSession};
//! use roomcast_runtime::{Driver, DriverConfig, Incoming, flush};
//! use roomcast_testkit::transport::{MemoryClient, MemoryTransport};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let list = FlushList::new();
//! tokio::spawn(flush(list.clone()));
//!
//! // In a server the exchange comes from an HTTP request.
//! let (exchange, mut client) = MemoryClient::connect(16);
//! let transport = MemoryTransport::default();
//! let connection = transport.open(exchange).expect("a request of this transport");
//! let session = PlainSession::new(Mode::Plain, Default::default(), Namespace::main());
//! let mut driver =
//!     Driver::new(Box::new(session), connection, transport.name(), list, DriverConfig::default());
//!
//! tokio::spawn(async move {
//!     while let Some(incoming) = driver.next().await {
//!         match incoming {
//!             Incoming::Connect { namespace, .. } => {
//!                 driver.accept(&namespace, SocketId::from("a"), || { /* attach to a router */ });
//!             }
//!             Incoming::Event(event) => {
//!                 let echo = Event::new(event.namespace, event.name, event.args);
//!                 let _ = driver.emit(Mode::Plain.codec().as_ref(), &echo);
//!             }
//!             _ => {}
//!         }
//!     }
//! });
//!
//! client.send("hello");
//! assert_eq!(client.recv().await, Some("hello".into()));
//! # });
//! ```

mod clock;
mod driver;
mod flusher;
mod session_store;
mod stall;
mod timer;

pub use driver::{Driver, DriverConfig, Incoming};
pub use flusher::flush;
pub use session_store::store_sessions;
pub use stall::{Stall, StallLimits, StallVerdict};
