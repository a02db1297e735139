//! Tokio task that connects a Roomcast server to a cluster of Node servers.
//!
//! [`NodeCluster`] joins a cluster of Socket.IO servers that use `@socket.io/redis-adapter` 8 (`createAdapter`) and
//! `@socket.io/redis-emitter` 5. It implements [`Cluster`](roomcast_core::Cluster), and drives one
//! [`ClassicNamespace`](roomcast_node_adapter::ClassicNamespace) for each open namespace over a
//! [`PubSub`], the engine. Roomcast servers that join in this way understand each other
//! as well. [`NodeClusterConfig::sharded`] selects the adapter `createShardedAdapter` instead, and
//! [`NodeCluster::start_streams`] that of `@socket.io/redis-streams-adapter`.
//!
//! ```no_run
//! use roomcast_backplane_redis::{RedisConfig, RedisPubSub};
//! use roomcast_cluster_node::{NodeCluster, NodeClusterConfig};
//!
//! # fn start() -> Result<(), roomcast_backplane_redis::ConfigError> {
//! let redis = RedisPubSub::new(RedisConfig::from_url("redis://127.0.0.1:6379")?);
//! let cluster = NodeCluster::start(NodeClusterConfig::new(), redis); // for `Io::builder().cluster(cluster)`
//! # Ok(()) }
//! ```
//!
//! [`NodeCluster::start_streams`] joins a cluster of `@socket.io/redis-streams-adapter` 0.3 instead, with a
//! [`StreamsNamespace`](roomcast_node_adapter::StreamsNamespace) for each namespace and a
//! [`StreamLog`] in addition to the engine; see [Streams](#streams).
//!
//! A cluster of Roomcast servers alone is better served by `roomcast-cluster-runtime`, which detects losses, delivers
//! to interested nodes only, and names the nodes that do not answer.
//!
//! # Operations
//!
//! Each works in both directions, with text and binary, in all namespaces, dynamic ones included: broadcasts with
//! rooms, exclusions and flags; joins, leaves and disconnects of matching sockets; queries for sockets and their
//! number; broadcasts with acknowledgements; events for servers, with and without acknowledgements; handles of remote
//! sockets. Everything that an emitter sends is received.
//!
//! # Guarantees
//!
//! - **Publishing never waits.** The calling thread encodes the message, and appends it to a queue that is bounded in
//!   bytes. Above [`queue_bytes`](NodeClusterConfig::queue_bytes) it is refused, and counted as `cluster_refused`.
//! - **Order**: messages of one thread arrive in order at each node. A query waits for the count of the nodes first, so
//!   later messages may overtake it.
//! - **Redis is away**: local delivery continues, and accepted publications wait. After 250 ms the
//!   [status](roomcast_core::Cluster::status) is `Degraded`, which is logged once, as is the end with the number of
//!   refused and unconfirmed publications. A frozen server is noticed by the engine's pings.
//! - **Redis returns**: the queue is published in order, after [a delay](NodeClusterConfig::resume_delay) in which
//!   other nodes return. Roomcast servers exchange messages again within 1 s.
//! - **Queries** end at their deadline, also if the nodes cannot be counted. The number of missing nodes is `None` if
//!   it is unknown. A dropped future withdraws the query.
//! - **Queries of other nodes** are answered until the node is not counted any more, also if the answer is empty.
//! - **Leaving** publishes the queue, then unsubscribes. The protocol has no goodbye.
//! - **A panic** of a host or handler affects one event; the task continues.
//!
//! # Streams
//!
//! With the streams adapter, events and changes of sockets are entries of a stream, and only queries are messages.
//!
//! - **Order**: reliable events take effect on all nodes in the order of the stream, also on this one, when they come
//!   back from it, with their offsets. So the clients of all Roomcast servers receive them in one order, and the offset
//!   of an event says that all earlier ones were delivered.
//! - **Confirmation**: `confirm` completes once Redis has stored all entries. An entry that Redis refuses, as without
//!   memory, is an error with its reason, and its event reaches the clients of this node only.
//! - **An answer is lost** with its connection: no entry is appended until the node has read the stream up to its end
//!   on the new connection. Entries that came back were stored; the others are appended again, before all later ones.
//!   If that fails, since the entry was trimmed or access rules forbid `CLIENT KILL`, the entry is stored twice with
//!   one number, and Roomcast servers deliver it once; Node servers deliver it twice.
//! - **The stream is away** for 250 ms: own events are delivered at once, with a provisional
//!   [offset](roomcast_node_adapter::StreamOffset), and the entries wait; they are marked when they are written.
//!   [`EventLog::missed`](roomcast_core::EventLog::missed) leaves them out for a client that returns with such an
//!   offset, and fails until all of them are in the stream. Clients return to this node
//!   [afterwards](roomcast_core::EventLog::settled).
//! - **An own entry does not come back** in 5 s ([`confirm_timeout`](roomcast_node_adapter::StreamsConfig)): its event
//!   is delivered with a provisional offset, and ignored if it comes back later.
//! - **Gaps**: entries that were trimmed before this node has read them, and a stream that was replaced or has lost its
//!   last entries, are reported to [`ClusterHost::missed`](roomcast_core::ClusterHost::missed), logged, and counted.
//! - **Memory**: waiting entries, and own events until they come back, count towards
//!   [`queue_bytes`](NodeClusterConfig::queue_bytes).
//! - **Repeated entries** are recognized for 4,096 senders.
//!
//! # Loss
//!
//! Without a stream:
//!
//! | Lost | When | Reported by |
//! | --- | --- | --- |
//! | own publications | the queue is full | the caller's receipt, `cluster_refused` |
//! | own publications | sent without a reply when a connection ends | `cluster_unconfirmed`, `confirm` |
//! | own publications | the cluster is dropped while Redis is away | `cluster_dropped`, the log |
//! | own publications, at one node | that node is disconnected | not reported |
//! | publications of others | this node is disconnected, or too slow for Redis | `ClusterHost::missed` |
//! | publications of Node | Node's client publishes before other nodes have returned | not reported |
//! | answers to others | the queue is full, or they are too large | `cluster_answers_dropped` |
//!
//! Redis may have delivered a publication without a reply; it is not repeated. Redis ends connections that exceed its
//! setting `client-output-buffer-limit`.
//!
//! # Limits of mixed clusters
//!
//! - **Losses between nodes are not seen**: messages have no numbers. Recovery of connection state marks a gap only for
//!   outages of this node's own connection.
//! - **Presence** covers this node. Node announces neither its sockets nor their joins; queries ask for them.
//! - **Membership is a count**: a query waits for as many answers as its channel has subscribers. A Node server that is
//!   frozen, or that died without closing its connection, delays each query until its deadline, up to the
//!   `tcp-keepalive` of Redis (300 s). Any other subscriber of the channel does so always. Queries of Roomcast servers
//!   wait for a Roomcast server in that state for at most 5 s, see [Heartbeats](#heartbeats). Queries of Node
//!   servers continue to count it.
//! - **Never alone**: other nodes are unknown until they send something, so each broadcast is published, and
//!   [`is_alone`](roomcast_core::ClusterNamespace::is_alone) is always `false`.
//! - **Each node hears everything**: broadcasts to rooms without members here are dropped unread, but received.
//! - **Acknowledgements** have one argument, and do not name their socket. A recipient that disconnects, or cannot
//!   acknowledge, is waited for until the deadline.
//! - **Binary in events for servers** arrives as Node's `Buffer` is in JSON.
//! - **Event names** that Node reserves, and arguments nested deeper than 127 levels, are refused as unsupported.
//! - **Sockets** are described in one message, with some 1 KB for each. An answer over the limit of a message, 16 MiB
//!   by default, is dropped, and composing a large one delays the task.
//! - **Answers of a Node server** to an event for servers are missing if it has no listener.
//!
//! # Heartbeats
//!
//! Roomcast servers publish a heartbeat each second on the channel `socket.io-roomcast#`, to which no Node server
//! subscribes. A server is silent, and no query waits for it, if four heartbeats of this server have arrived since
//! its last one, and Redis counts it nevertheless. An outage of Redis makes no server silent. The gauge
//! `cluster_nodes_silent` counts them. Without the permission for the channel there are no heartbeats, and queries
//! wait.
//!
//! # Safety of Node servers
//!
//! Node's adapter ends its process on some malformed messages. Only complete messages of the protocol are published, on
//! channels of this namespace only; see [`roomcast_node_adapter`]. The counted channel of a namespace is subscribed
//! once, after the others, and left first, so no Node server waits for a node that does not answer.
//!
//! # Handlers of events for servers
//!
//! They start in order of arrival, on the task of the cluster. A pending handler continues as a separate task. Their
//! number is [limited](NodeClusterConfig::max_handlers), as is their [time](NodeClusterConfig::handler_timeout).
//!
//! # Cancel safety
//!
//! All futures may be dropped. [`leave`](roomcast_core::Cluster::leave) takes effect nevertheless.
//!
//! # Permissions
//!
//! Redis compares patterns with access rules literally, so a user with access rules needs a rule for the pattern of
//! each namespace. On one line:
//!
//! ```text
//! user roomcast on >PASSWORD resetchannels &socket.io* &socket.io#/#* &socket.io#/chat#* -@all +publish +subscribe
//!     +unsubscribe +psubscribe +punsubscribe +pubsub|numsub +ping +client|id +client|kill +role
//! ```

mod batch;
mod cluster;
mod config;
mod cost;
mod driver;
mod event_log;
mod input;
mod metrics;
mod namespace;
mod shared;
mod writer;

pub use cluster::NodeCluster;
pub use config::NodeClusterConfig;
pub use roomcast_node_adapter::{PubSub, StreamLog, SubscriptionMode};
