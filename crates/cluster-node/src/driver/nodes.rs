//! Heartbeats of Roomcast nodes, on a channel that no Node server subscribes to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_node_adapter::PubSubCommand;

/// Other Roomcast nodes, by their heartbeats.
///
/// Redis counts a frozen node until it closes the connection. Requests do not wait for a node whose heartbeats are
/// missing while the heartbeats of this node arrive. Node servers send none, so a frozen one is still waited for.
#[derive(Debug)]
pub(super) struct Nodes {
    channel: ByteString,
    uid: ByteString,
    subscription: Subscription,
    next_at: Option<Instant>,
    /// Own heartbeats that arrived since the last one of each node.
    others: BTreeMap<ByteString, u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subscription {
    Wanted,
    Requested,
    Active,
    /// Not requested again until the next connection.
    Refused,
    /// The goodbye was sent.
    Ended,
}

impl Nodes {
    pub(super) fn new(prefix: &str, uid: &str) -> Self {
        Self {
            channel: format!("{prefix}-roomcast#").into(),
            uid: uid.into(),
            subscription: Subscription::Wanted,
            next_at: None,
            others: BTreeMap::new(),
        }
    }

    pub(super) fn channel(&self) -> &ByteString {
        &self.channel
    }

    /// Notes the loss of all subscriptions.
    pub(super) fn lose(&mut self) {
        if self.subscription != Subscription::Ended {
            self.subscription = Subscription::Wanted;
        }
        self.next_at = None;
        self.others.values_mut().for_each(|missed| *missed = 0);
    }

    /// Notes that the subscription is in effect, or was refused.
    pub(super) fn confirm(&mut self, is_accepted: bool, now: Instant) {
        if self.subscription == Subscription::Requested {
            self.subscription = if is_accepted { Subscription::Active } else { Subscription::Refused };
            self.next_at = is_accepted.then_some(now);
        }
    }

    pub(super) fn has_command(&self, is_leaving: bool, now: Instant) -> bool {
        match self.subscription {
            Subscription::Wanted => !is_leaving,
            Subscription::Active => is_leaving || self.next_at.is_some_and(|at| at <= now),
            Subscription::Requested | Subscription::Refused | Subscription::Ended => false,
        }
    }

    /// Returns the subscription, a heartbeat, or the goodbye.
    pub(super) fn next_command(&mut self, is_leaving: bool, now: Instant) -> Option<PubSubCommand> {
        if self.subscription == Subscription::Wanted {
            self.subscription = Subscription::Requested;
            let channels = vec![self.channel.clone()];
            return Some(PubSubCommand::Subscribe { channels, patterns: Vec::new(), token: TOKEN });
        }
        self.next_at = (!is_leaving).then(|| now + INTERVAL);
        if is_leaving {
            self.subscription = Subscription::Ended;
        }
        let kind = if is_leaving { GOODBYE } else { HEARTBEAT };
        let payload = format!("{kind}{}", self.uid).into();
        Some(PubSubCommand::Publish { channel: self.channel.clone(), payload })
    }

    /// Returns the time of the next heartbeat; one that is due waits for the engine.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.next_at.filter(|at| *at > now)
    }

    /// Takes a message of the channel; others than heartbeats and goodbyes are ignored.
    pub(super) fn receive(&mut self, payload: &Bytes) {
        let Ok(text) = std::str::from_utf8(payload) else { return };
        if let Some(uid) = text.strip_prefix(GOODBYE) {
            self.others.remove(uid);
        } else if let Some(uid) = text.strip_prefix(HEARTBEAT) {
            if *uid == *self.uid {
                self.others.values_mut().for_each(|missed| *missed = missed.saturating_add(1));
            } else if let Some(missed) = self.others.get_mut(uid) {
                *missed = 0;
            } else if uid.len() <= MAX_UID && self.others.len() < MAX_NODES {
                self.others.insert(uid.into(), 0);
            }
        }
    }

    /// Returns the nodes whose heartbeats are missing.
    pub(super) fn silent(&self) -> impl Iterator<Item = &ByteString> {
        self.others.iter().filter(|(_, missed)| **missed >= SILENT).map(|(uid, _)| uid)
    }

    pub(super) fn is_silent(&self, uid: &ByteString) -> bool {
        self.others.get(uid).is_some_and(|missed| *missed >= SILENT)
    }

    /// Notes that Redis does not count a silent node; it is forgotten after a while, since it has ended.
    pub(super) fn note_absent(&mut self, uid: &ByteString) {
        if self.others.get(uid).is_some_and(|missed| *missed >= ENDED) {
            self.others.remove(uid);
        }
    }
}

/// Token of the subscription. Namespaces have tokens from 1.
pub(super) const TOKEN: u64 = 0;
/// Time between heartbeats.
const INTERVAL: Duration = Duration::from_secs(1);
/// Missing heartbeats after which a node is silent: after 3 s to 4 s.
const SILENT: u32 = 4;
/// Missing heartbeats after which a node that is not counted has ended.
const ENDED: u32 = 60;
const MAX_NODES: usize = 1024;
const MAX_UID: usize = 64;
const HEARTBEAT: char = '+';
const GOODBYE: char = '-';
