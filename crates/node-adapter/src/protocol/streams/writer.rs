//! Entries and messages that want no answer.

use bytestring::ByteString;
use roomcast_core::{Args, Event, Membership, Namespace};

use super::StreamsConfig;
use crate::{
    ClusterBody, ClusterChannels, ClusterEncoding, Composed, EncodeError, EntryFields, Flags, Recipients,
    encode_cluster_message, encode_entry,
};

/// Composes the entries and messages of one namespace that want no answer. Threads may share it.
///
/// Entries have no number yet: [`StreamsNamespace::append`](super::StreamsNamespace::append) numbers them in order.
#[derive(Debug)]
pub struct StreamsWriter {
    namespace: Namespace,
    uid: ByteString,
    channels: ClusterChannels,
    plaintext_only: bool,
}

impl StreamsWriter {
    /// Creates a writer for a node with an id that no other node has; see
    /// [`cluster_uid`](crate::cluster_uid).
    #[must_use]
    pub fn new(config: &StreamsConfig, namespace: Namespace, uid: &str) -> Self {
        Self {
            channels: ClusterChannels::new(&config.prefix, &namespace, uid),
            plaintext_only: config.plaintext_only,
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

    /// Composes an event for sockets.
    ///
    /// # Errors
    /// Returns an error if the event could harm a Node server or its clients.
    pub fn broadcast(
        &self,
        recipients: &Recipients,
        flags: &Flags,
        event: &Event,
    ) -> Result<EntryFields, EncodeError> {
        self.entry(&ClusterBody::Broadcast(recipients.clone(), flags.clone(), event.clone()))
    }

    /// Composes a change to the rooms of matching sockets.
    #[must_use]
    pub fn update(&self, recipients: Recipients, change: Membership) -> EntryFields {
        self.entry(&ClusterBody::Update(recipients, change)).expect("only events are refused")
    }

    /// Composes a disconnect of matching sockets; with `close`, also of their clients' connections.
    #[must_use]
    pub fn disconnect(&self, recipients: Recipients, close: bool) -> EntryFields {
        self.entry(&ClusterBody::Disconnect(recipients, close)).expect("only events are refused")
    }

    /// Composes an event for the servers of all other nodes, a message of pub/sub.
    ///
    /// # Errors
    /// Returns an error if the event could harm a Node server.
    pub fn server_side_emit(&self, name: &ByteString, args: &Args) -> Result<Composed, EncodeError> {
        let body = ClusterBody::ServerSideEmit(name.clone(), args.clone());
        let encoding = ClusterEncoding::MessagePack;
        let payload = encode_cluster_message(&self.uid, &self.namespace, "", &body, encoding)?;
        Ok(Composed { channel: self.channels.common().clone(), payload })
    }

    fn entry(&self, body: &ClusterBody) -> Result<EntryFields, EncodeError> {
        encode_entry(&self.uid, &self.namespace, body, self.plaintext_only)
    }
}
