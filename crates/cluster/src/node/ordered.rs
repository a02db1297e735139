//! Publications whose order with others is to be decided.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::action::Publication;
use crate::{Channel, NodeRef};

/// Publication on one of its channels.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) publication: Publication,
    /// Number of the publication, if it has several channels.
    pub(super) copy: Option<u64>,
    /// Number of the last publication to several rooms before it.
    pub(super) after: u64,
}

/// Publication that waits for other channels, or behind one that does.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ordered: Ordered,
    pub(super) until: Instant,
}

/// Publication to deliver.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) channel: Channel,
    pub(super) from: NodeRef,
    pub(super) publication: Publication,
    pub(super) copy: Option<u64>,
    /// Channels on which a later publication was delivered.
    pub(super) overtaken: Vec<Channel>,
}

/// Publications of a node that wait.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// Channels on which they wait.
    pub(super) channels: BTreeSet<Channel>,
    /// Channels of each publication with several, by number.
    pub(super) copies: BTreeMap<u64, Vec<Channel>>,
}

/// Whether a copy on a channel is to be expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expectation {
    Awaited,
    /// The subscription was lost, which was reported. The order still holds.
    Lost,
    /// The subscription was never confirmed. It may arrive or not, and the order does not hold yet.
    Possible,
    /// No member wants it.
    None,
}

impl Expectation {
    /// Returns whether the publications of the channel are in order.
    pub(super) fn is_ordered(self) -> bool {
        matches!(self, Self::Awaited | Self::Lost)
    }
}

impl Ordered {
    pub(super) fn number(&self) -> u64 {
        self.copy.unwrap_or(self.after)
    }
}

impl Waiting {
    pub(super) fn cost(&self) -> usize {
        self.ordered.publication.body.len() + WAITING_COST
    }
}

/// Returns the channels of a publication.
pub(super) fn channels(publication: &Publication) -> Vec<Channel> {
    let channels = publication.rooms.iter().map(|room| Channel::of(&publication.namespace, Some(room)));
    let mut channels: Vec<_> = channels.collect();
    channels.sort_unstable();
    channels.dedup();
    channels
}

/// Returns its channels without one.
pub(super) fn others(publication: &Publication, channel: &Channel) -> Vec<Channel> {
    let mut others = channels(publication);
    others.retain(|other| other != channel);
    others
}

/// Memory of a publication that waits, without its body.
const WAITING_COST: usize = 64;
