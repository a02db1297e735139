//! Tokio task that connects a Roomcast server to the other nodes of its cluster, over any message engine.
//!
//! [`ClusterConnection`] implements [`Cluster`](roomcast_core::Cluster), the trait by which a server knows its cluster.
//! It drives one [`Node`](roomcast_cluster::Node) and its [`Backplane`](roomcast_cluster::Backplane), the engine.
//!
//! ```
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use roomcast_cluster_runtime::{ClusterConnection, ConnectionConfig};
//! use roomcast_core::{
//!     AnswerSink, Args, ByteString, Cluster, ClusterHost, Event, Membership, Namespace, Room, SocketInfo, Target,
//! };
//! use roomcast_testkit::cluster::{Harness, MemoryEngine};
//!
//! /// Namespace that prints the events of other nodes. A server delivers them to its clients.
//! struct Printer;
//!
//! # #[rustfmt::skip]
//! #[async_trait]
//! impl ClusterHost for Printer {
//!     fn deliver(&self, target: &Target, event: &Event) -> usize {
//!         println!("{} to {:?}", event.name, target.rooms);
//!         0
//!     }
//!
//!     fn deliver_with_ack(&self, _: &Target, _: Event, _: Arc<dyn AnswerSink>) {}
//!     fn update(&self, _: &Target, _: &Membership) {}
//!     fn disconnect(&self, _: &Target, _: bool) {}
//!     fn find(&self, _: &Target) -> Vec<SocketInfo> { Vec::new() }
//!     fn count(&self, _: &Target) -> usize { 0 }
//!     async fn server_side(&self, _: &ByteString, _: Args) -> Option<Args> { None }
//!     fn missed(&self, _: Option<&Room>) {}
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! // In production: an engine such as Redis or NATS.
//! let mut engine = MemoryEngine::new(1);
//! let nodes = [engine.connect(0), engine.connect(1)];
//! let time = engine.clone();
//! tokio::spawn(async move { time.run().await });
//!
//! let [one, two] = nodes.map(|engine| ClusterConnection::start(ConnectionConfig::new(), engine));
//! let host = Arc::new(Printer);
//! let namespaces = [&one, &two].map(|cluster| {
//!     let host: std::sync::Weak<Printer> = Arc::downgrade(&host);
//!     cluster.open(&Namespace::main(), host)
//! });
//! namespaces[1].heard(None).await;
//!
//! let event = Event::new(Namespace::main(), "hello", Args::empty());
//! assert!(namespaces[0].broadcast(&Target::default(), &event).refusal().is_none());
//! one.leave().await;
//! # });
//! ```
//!
//! # Guarantees
//!
//! The [guarantees of the cluster](roomcast_cluster#guarantees) hold from namespace to namespace. In addition:
//!
//! - **Publishing never waits.** The calling thread encodes the publication and appends it to a queue under a lock that
//!   is held for nanoseconds. The bytes that wait for the engine are bounded by
//!   [`queue_bytes`](roomcast_cluster::ClusterConfig::queue_bytes); above it publications are refused and counted. An
//!   accepted publication is not dropped later, except when the connection ends without an engine.
//! - **Order**: publications that one thread makes, and changes of rooms, reach the node in that order.
//! - **Alone**: while no other node is known, publishing costs one relaxed load, and queries return at once. During the
//!   first heartbeat interval the node cannot know, and publishes.
//! - **Queries end** at their deadline, with an accuracy of a millisecond, and name the ids of the nodes whose answers
//!   are missing. A dropped future withdraws the query. Answers are split, so that large ones neither exceed a limit
//!   nor delay publications; unread answers are bounded by
//!   [`reassembly_bytes`](roomcast_cluster::ClusterConfig::reassembly_bytes).
//! - **Fairness**: a turn of the task handles at most 1,024 inputs, 256 commands, and events with 256 deliveries or so.
//!   Other tasks and sockets take their turns in between.
//! - **A panic** of a host or handler affects one event; the task continues.
//!
//! # Loss
//!
//! [`ClusterHost::missed`](roomcast_core::ClusterHost::missed) is called for a room after a gap on its channel, and for
//! whole namespaces if the gap has no room. It is also called for all namespaces when a node dies, since its last
//! publications may not have arrived. A node that joins or says goodbye, as in a rolling deploy, is no loss: the state
//! machine reports a gap if one of its publications is missing. If this node was itself declared dead and rejoins, that
//! is no loss here; gaps report the messages that it has missed.
//!
//! # Handlers of events for servers
//!
//! They start in order of arrival, on the task of the connection. A pending handler continues as a separate task. Their
//! number is [limited](ConnectionConfig::max_handlers), as is their [time](ConnectionConfig::handler_timeout). A node
//! without a handler for the event, or whose handler fails, does not answer and is missing at the deadline; a node that
//! does not serve the namespace is not waited for.
//!
//! # Status
//!
//! A connection is `Joining` until its first subscriptions are confirmed, at most
//! [`join_timeout`](roomcast_cluster::ClusterConfig::join_timeout). It is `Degraded` while the engine has accepted
//! nothing for 250 ms although something is to be sent, one of several servers is lost for as long, or a subscription
//! is unconfirmed for longer than the join timeout. Each change is logged. It is `Left` after the goodbye and the
//! engine's flush, or when its task has ended.
//!
//! # Cancel safety
//!
//! All futures may be dropped. [`leave`](roomcast_core::Cluster::leave) takes effect nevertheless.
//!
//! # Versions
//!
//! Nodes of different versions work together: events, commands and queries are encoded as numbered fields, and unknown
//! ones are ignored.

mod body;
mod config;
mod connection;
mod driver;
mod input;
mod metrics;
mod namespace;
mod peers;
mod shared;

#[doc(hidden)]
pub use body::check_body;
pub use config::ConnectionConfig;
pub use connection::ClusterConnection;
