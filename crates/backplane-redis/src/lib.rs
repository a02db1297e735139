//! Message engines of clusters on Redis pub/sub: Roomcast's own clusters, and clusters with Node servers.
//!
//! [`RedisBackplane`] connects nodes of Roomcast by a Redis server, version 6 or later, or one that sentinels choose.
//! It implements [`Backplane`](roomcast_cluster::Backplane): each [`Channel`](roomcast_cluster::Channel) is a channel
//! of Redis, named by the prefix and the channel's `Display` form. A node hears only the channels that it is subscribed
//! to, so a message to a room without members costs it nothing. [`RedisPubSub`] connects a node to Node servers, and
//! [`RedisStream`] to the stream of Node's streams adapter. [`RedisClusterPubSub`] uses the sharded channels of a Redis
//! Cluster. [`RedisSessionStore`] keeps the sessions of clients, for their recovery on other nodes.
//!
//! ```no_run
//! use std::future::poll_fn;
//!
//! use bytes::Bytes;
//! use roomcast_backplane_redis::{RedisBackplane, RedisConfig};
//! use roomcast_cluster::{Backplane, BackplaneCommand, Channel};
//!
//! # async fn run() -> Result<(), roomcast_backplane_redis::ConfigError> {
//! let config = RedisConfig::from_url("redis://127.0.0.1:6379")?.prefix("chat:");
//! let mut engine = RedisBackplane::new(config);
//! // A cluster's node does this in `Node::exchange`. Events have to be polled for the engine to work.
//! let payload = Bytes::from_static(b"hello");
//! poll_fn(|cx| {
//!     while engine.poll_event(cx).is_ready() {}
//!     engine.poll_ready(cx)
//! })
//! .await;
//! engine.send(BackplaneCommand::Publish { channel: Channel::Nodes, payload });
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! - **Order**: messages of one node arrive in order of publication. After a frozen server, the new connection first
//!   ends the old one at the server by `CLIENT KILL`, so that it delivers no message late; a user without the
//!   permission for that command does without.
//! - **Confirmation**: a subscription is confirmed by Redis itself. Publications wait for the confirmation of
//!   subscriptions that were sent before them, since they have another connection.
//! - **Loss**: Redis pub/sub delivers at most once and keeps nothing. A lost subscribing connection is reported as
//!   `Unsubscribed`, and a message over [`max_message`](RedisConfig::max_message) as `Missed`; the node's numbers
//!   detect the rest. A restart of Redis loses all messages that it had not written to its clients, and all
//!   subscriptions, which the nodes request again.
//! - **Accounting**: each accepted publication is confirmed, refused, unconfirmed or queued; see [`RedisMetrics`].
//!   After a lost connection, publications that were not sent are sent by the next one. Publications sent without a
//!   reply are unconfirmed: Redis has delivered some of them or none, and they are not repeated.
//! - **Bounds**: the engine takes no command while a connection is away or its
//!   [queue](RedisConfig::send_buffer) is full. It reads from Redis only what the node polls, and holds at most
//!   [`max_message`](RedisConfig::max_message) and 32 KiB of it. Messages that a slow node does not read are queued by
//!   Redis, which closes the connection at `client-output-buffer-limit pubsub` (32 MiB, or 8 MiB for 60 s, by default).
//!
//! # Outages
//!
//! A lost connection is restored after 31 to 62 ms, with a delay that doubles up to 500 ms. A server that is frozen, or
//! that the network cannot reach, is noticed after three to four [intervals](RedisConfig::ping_interval), 3 s to 4 s by
//! default. A connection that has not replied for one to two intervals takes no more publications: they wait in the
//! node's queue, and would be unconfirmed otherwise. A connection on which messages arrive, but no reply to a command,
//! is closed after ten intervals.
//!
//! The first failure of an outage is logged, the first refusal by Redis, as of a password, and its end, with its
//! duration and losses. Passwords are neither logged nor printed.
//!
//! Redis refuses no publication when it is out of memory: PUBLISH uses none of `maxmemory`.
//!
//! # Several servers
//!
//! [`RedisShards`] connects nodes of Roomcast by several independent servers, among which the rooms are divided. Each
//! connection is restored by itself, and the loss of a server concerns its rooms only. See
//! [`ShardedBackplane`](roomcast_cluster::ShardedBackplane) for the guarantees, and for adding and removing servers.
//!
//! # Permissions
//!
//! A user with access rules needs the commands `PUBLISH`, `SUBSCRIBE`, `UNSUBSCRIBE`, `PING` and `AUTH`, and the
//! channels of the prefix; with [sharded channels](RedisConfig::sharded_channels) `SPUBLISH`, `SSUBSCRIBE` and
//! `SUNSUBSCRIBE` instead of the first three; with sentinels also `ROLE`. `CLIENT ID` and `CLIENT KILL` are optional.
//! On one line:
//!
//! ```text
//! user roomcast on >PASSWORD resetchannels &roomcast* -@all +publish +subscribe +unsubscribe +ping
//!     +client|id +client|kill +role
//! ```
//!
//! # Cost
//!
//! The connections have their own parser, and share the task that polls the engine. The example `cost` compares the
//! CPU time of a message with that of the bare client library:
//!
//! ```sh
//! cargo run --release --package roomcast-backplane-redis --example cost
//! ```

mod cluster;
mod config;
mod connection;
mod metrics;
mod native;
mod pubsub;
mod sessions;
mod shards;
mod stream;

pub use cluster::{RedisClusterMetrics, RedisClusterPubSub, RedisShardMetrics};
pub use config::{ConfigError, RedisConfig};
pub use metrics::RedisMetrics;
pub use native::RedisBackplane;
pub use pubsub::RedisPubSub;
pub use sessions::RedisSessionStore;
pub use shards::RedisShards;
pub use stream::{RedisStream, RedisStreamMetrics};
