//! Messages that want no answer.

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{Args, Event, Membership, Namespace, Target};

use crate::codec::broadcast_bytes;
use crate::{Channels, EncodeError, Flags, Recipients, Request, encode_broadcast, encode_request};

/// Message and its channel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "drivers take it apart")]
pub struct Composed {
    /// Channel.
    pub channel: ByteString,
    /// Message.
    pub payload: Bytes,
}

/// Broadcast and its channel, in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "drivers take it apart")]
pub struct Broadcast<'a> {
    /// Parts of the channel.
    pub channel: [&'a str; 3],
    /// Message.
    pub payload: Vec<u8>,
}

impl Broadcast<'_> {
    /// Returns the length of the channel and the message together.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.channel.iter().map(|part| part.len()).sum::<usize>() + self.payload.len()
    }
}

impl From<Broadcast<'_>> for Composed {
    fn from(message: Broadcast<'_>) -> Self {
        Self { channel: message.channel.concat().into(), payload: message.payload.into() }
    }
}

/// Composes the messages of one namespace that want no answer. Threads may share it.
#[derive(Debug)]
pub struct ClassicWriter {
    namespace: Namespace,
    uid: ByteString,
    channels: Channels,
}

impl ClassicWriter {
    /// Creates a writer for a node with an id that no other node has; see
    /// [`node_uid`](crate::node_uid). The prefix is Node's option `key`.
    #[must_use]
    pub fn new(prefix: &str, namespace: Namespace, uid: &str) -> Self {
        Self { channels: Channels::new(prefix, &namespace, uid), namespace, uid: uid.into() }
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

    /// Returns the channels of the namespace.
    #[must_use]
    pub fn channels(&self) -> &Channels {
        &self.channels
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
        let payload = encode_broadcast(&self.uid, recipients, flags, event)?;
        Ok(Composed { channel: self.channels.broadcast(&recipients.rooms), payload })
    }

    /// Composes an event like [`broadcast`](Self::broadcast), without memory for its channel.
    ///
    /// # Errors
    /// Returns an error if the event could harm a Node server or its clients.
    pub fn compose<'a>(
        &'a self,
        target: &'a Target,
        flags: &Flags,
        event: &Event,
    ) -> Result<Broadcast<'a>, EncodeError> {
        let payload = broadcast_bytes(&self.uid, (&target.rooms, &target.except), flags, event)?;
        Ok(Broadcast { channel: self.channels.broadcast_parts(&target.rooms), payload })
    }

    /// Composes a change to the rooms of matching sockets on other nodes.
    #[must_use]
    pub fn update(&self, recipients: Recipients, change: Membership) -> Composed {
        self.command(&Request::Update(recipients, change)).expect("only events are refused")
    }

    /// Composes a disconnect of matching sockets on other nodes; with `close`, also of their clients' connections.
    #[must_use]
    pub fn disconnect(&self, recipients: Recipients, close: bool) -> Composed {
        self.command(&Request::Disconnect(recipients, close)).expect("only events are refused")
    }

    /// Composes an event for the servers of all other nodes. Binary arguments arrive as Node's `Buffer` is in JSON.
    ///
    /// # Errors
    /// Returns an error if the event could harm a Node server.
    pub fn server_side_emit(&self, name: &ByteString, args: &Args) -> Result<Composed, EncodeError> {
        self.command(&Request::ServerSideEmit(name.clone(), args.clone()))
    }

    fn command(&self, request: &Request) -> Result<Composed, EncodeError> {
        let payload = encode_request(&self.uid, "", request)?;
        Ok(Composed { channel: self.channels.request().clone(), payload })
    }
}
