//! State machine of a namespace, with any adapter.

use std::ops::{Deref, DerefMut};

use bytestring::ByteString;
use roomcast_node_adapter::{
    AdapterMetrics, AdapterNamespace, ClassicNamespace, ClusterChannels, ShardedNamespace, StreamsNamespace,
};

/// State machine of a namespace.
#[derive(Debug)]
pub(super) enum Adapter {
    Classic(Box<ClassicNamespace>),
    Sharded(Box<ShardedNamespace>),
    Streams(Box<StreamsNamespace>),
}

/// Subscriptions of a namespace for its whole life. The channels of rooms are [others](super::rooms::RoomChannels).
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// Channels. The last one is counted, so it is the last to begin, and the first to end.
    pub(super) channels: Vec<ByteString>,
    pub(super) patterns: Vec<ByteString>,
}

impl Names {
    fn of_cluster(channels: &ClusterChannels) -> Self {
        Self { channels: vec![channels.own().clone(), channels.common().clone()], patterns: Vec::new() }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &ByteString> {
        self.channels.iter().chain(&self.patterns)
    }
}

impl Adapter {
    pub(super) fn names(&self) -> Names {
        match self {
            Self::Classic(node) => {
                let channels = node.channels();
                let listed = [channels.own_response(), channels.response(), channels.request()];
                Names {
                    channels: listed.map(Clone::clone).into(),
                    patterns: vec![channels.pattern().clone()],
                }
            }
            Self::Sharded(node) => Names::of_cluster(node.channels()),
            Self::Streams(node) => Names::of_cluster(node.channels()),
        }
    }

    /// Returns the channel that servers with another adapter on the same prefix are counted by, of the kind that the
    /// engine does not use.
    pub(super) fn other_channel(&self) -> Option<ByteString> {
        match self {
            Self::Classic(node) => Some(node.channels().broadcast(&[])),
            Self::Sharded(node) => Some(node.classic_channel().clone()),
            Self::Streams(_) => None,
        }
    }

    pub(super) fn as_sharded(&mut self) -> Option<&mut ShardedNamespace> {
        match self {
            Self::Sharded(node) => Some(node),
            Self::Classic(_) | Self::Streams(_) => None,
        }
    }

    /// Returns the channel to which a node with this id subscribes for answers.
    pub(super) fn answers_to(&self, uid: &str) -> ByteString {
        match self {
            Self::Classic(node) => node.channels().response_to(uid),
            Self::Sharded(node) => node.channels().node(uid),
            Self::Streams(node) => node.channels().node(uid),
        }
    }

    /// Returns the counters since the last call.
    pub(super) fn take_metrics(&mut self) -> AdapterMetrics {
        match self {
            Self::Classic(node) => node.take_metrics(),
            Self::Sharded(node) => node.take_metrics(),
            Self::Streams(node) => node.take_metrics(),
        }
    }

    pub(super) fn as_streams(&mut self) -> Option<&mut StreamsNamespace> {
        match self {
            Self::Streams(node) => Some(node),
            Self::Classic(_) | Self::Sharded(_) => None,
        }
    }
}

impl Deref for Adapter {
    type Target = dyn AdapterNamespace;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Classic(node) => &**node,
            Self::Sharded(node) => &**node,
            Self::Streams(node) => &**node,
        }
    }
}

impl DerefMut for Adapter {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Classic(node) => &mut **node,
            Self::Sharded(node) => &mut **node,
            Self::Streams(node) => &mut **node,
        }
    }
}
