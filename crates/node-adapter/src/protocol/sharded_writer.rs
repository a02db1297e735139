//! Messages of the sharded adapter that want no answer.

use bytestring::ByteString;
use roomcast_core::{Args, Event, Membership, Namespace, Room};

use super::ShardedConfig;
use super::sharded::SubscriptionMode;
use crate::{
    ClusterBody, ClusterChannels, ClusterEncoding, Composed, EncodeError, Flags, Recipients,
    encode_cluster_message,
};

/// Composes the messages of one namespace that want no answer. Threads may share it.
#[derive(Debug)]
pub struct ShardedWriter {
    namespace: Namespace,
    uid: ByteString,
    mode: SubscriptionMode,
    channels: ClusterChannels,
}

impl ShardedWriter {
    /// Creates a writer for a node with an id that no other node has; see
    /// [`cluster_uid`](crate::cluster_uid).
    #[must_use]
    pub fn new(config: &ShardedConfig, namespace: Namespace, uid: &str) -> Self {
        Self {
            channels: ClusterChannels::new(&config.prefix, &namespace, uid),
            mode: config.mode,
            namespace,
            uid: uid.into(),
        }
    }

    /// Returns the namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Returns the id of the node in the namespace.
    #[must_use]
    pub fn uid(&self) -> &ByteString {
        &self.uid
    }

    /// Returns the channel that a node with members of a room subscribes to, if there is one in this mode.
    ///
    /// A room with the name of this node has none, since its channel is subscribed anyway.
    #[must_use]
    pub fn room_channel(&self, room: &Room) -> Option<ByteString> {
        let has_channel = self.mode.subscribes_to(room.as_str()) && self.uid != room.as_str();
        has_channel.then(|| self.channels.room(room.as_str()))
    }

    /// Composes an event for the sockets of other nodes.
    ///
    /// # Errors
    /// Returns an error if the event could harm a Node server or its clients.
    pub fn broadcast(
        &self,
        recipients: &Recipients,
        flags: &Flags,
        event: &Event,
    ) -> Result<Composed, EncodeError> {
        let channel = self.mode.channel(&self.channels, &recipients.rooms);
        let body = ClusterBody::Broadcast(recipients.clone(), flags.clone(), event.clone());
        Ok(Composed { channel, payload: self.encode(&body)? })
    }

    /// Composes a change to the rooms of matching sockets on other nodes.
    #[must_use]
    pub fn update(&self, recipients: Recipients, change: Membership) -> Composed {
        self.command(&ClusterBody::Update(recipients, change)).expect("only events are refused")
    }

    /// Composes a disconnect of matching sockets on other nodes; with `close`, also of their clients' connections.
    #[must_use]
    pub fn disconnect(&self, recipients: Recipients, close: bool) -> Composed {
        self.command(&ClusterBody::Disconnect(recipients, close)).expect("only events are refused")
    }

    /// Composes an event for the servers of all other nodes.
    ///
    /// # Errors
    /// Returns an error if the event could harm a Node server.
    pub fn server_side_emit(&self, name: &ByteString, args: &Args) -> Result<Composed, EncodeError> {
        self.command(&ClusterBody::ServerSideEmit(name.clone(), args.clone()))
    }

    fn command(&self, body: &ClusterBody) -> Result<Composed, EncodeError> {
        Ok(Composed { channel: self.channels.common().clone(), payload: self.encode(body)? })
    }

    fn encode(&self, body: &ClusterBody) -> Result<bytes::Bytes, EncodeError> {
        encode_cluster_message(&self.uid, &self.namespace, "", body, ClusterEncoding::JsonUnlessBinary)
    }
}
