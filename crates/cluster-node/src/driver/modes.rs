//! Servers with another adapter or mode, which do not understand this one.

use std::task::Context;
use std::time::{Duration, Instant};

use bytestring::ByteString;
use roomcast_cluster_task::clock;
use roomcast_node_adapter::SubscriberCount;
use tracing::warn;

use super::Driver;
use crate::input::Key;

impl Driver {
    /// Plans the search for servers with another adapter in a namespace.
    pub(super) fn look_for_others(&mut self, key: Key, now: Instant) {
        let has_other = self.namespaces.get(&key).is_some_and(|entry| entry.node.other_channel().is_some());
        if has_other && !self.searches.iter().any(|(_, other)| *other == key) {
            self.searches.push_back((clock::after(now, FIRST_SEARCH), key));
        }
    }

    /// Counts the servers with another adapter in each namespace where a search is due.
    pub(super) fn search(&mut self, cx: &mut Context<'_>, now: Instant) {
        while self.searches.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, key)) = self.searches.pop_front()
        {
            let Some(entry) = self.namespaces.get(&key).filter(|entry| !entry.is_closed()) else { continue };
            let Some(channel) = entry.node.other_channel() else { continue };
            self.searches.push_back((clock::after(now, SEARCH_INTERVAL), key));
            if self.engine.poll_ready(cx).is_ready() {
                self.last_count += 1;
                if self.engine.count_other_kind(&channel, self.last_count) {
                    self.searching.insert(self.last_count, key);
                }
            }
        }
    }

    /// Handles the count of a search; returns `false` if the count is another one.
    pub(super) fn finish_search(&mut self, token: u64, count: SubscriberCount) -> bool {
        let Some(key) = self.searching.remove(&token) else { return false };
        match count {
            SubscriberCount::Known(0) | SubscriberCount::Lost => {}
            SubscriberCount::Known(servers) => {
                let adapter = match &self.shared.sharded {
                    Some(_) => "createAdapter",
                    None => "createShardedAdapter",
                };
                self.note_mixed(|| {
                    warn!(
                        adapter,
                        servers,
                        "servers with another adapter use the same prefix, and receive no events of this one"
                    );
                });
            }
            // The server has no such channels, or the user no permission.
            SubscriberCount::Refused => self.searches.retain(|(_, other)| *other != key),
        }
        true
    }

    /// Notes a node in another mode.
    pub(super) fn note_other_mode(&mut self, node: &ByteString, mode: Option<&ByteString>) {
        let own = self.shared.sharded.as_ref().map_or("", |sharded| sharded.mode.as_str());
        self.note_mixed(|| {
            let mode = mode.map_or("unknown", |mode| mode);
            warn!(
                %node, mode, own,
                "node with another subscription mode: events to rooms may be lost until all nodes have the same one"
            );
        });
    }

    /// Counts a sign of servers with another adapter or mode; the first one is logged.
    fn note_mixed(&mut self, log: impl FnOnce()) {
        if self.stats.mixed == 0 {
            log();
        }
        self.stats.mixed += 1;
    }
}

/// Time from a subscription to the search, in which others that started at the same time subscribe.
const FIRST_SEARCH: Duration = Duration::from_secs(1);
const SEARCH_INTERVAL: Duration = Duration::from_secs(60);
