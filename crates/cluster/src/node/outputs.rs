//! Outputs of a node, filled by its parts.

use std::collections::VecDeque;

use crate::action::ActionQueue;
use crate::{BackplaneCommand, Channel, ClusterAction, ClusterMetrics, NodeRef};

/// Pending actions and commands, and the counters.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    pub(super) actions: ActionQueue,
    /// Subscribe and unsubscribe commands.
    pub(super) commands: VecDeque<BackplaneCommand>,
    pub(super) metrics: ClusterMetrics,
}

impl Outputs {
    pub(super) fn act(&mut self, action: ClusterAction) {
        self.actions.push_back(action);
    }

    pub(super) fn gap(&mut self, channel: Option<Channel>, from: Option<NodeRef>, lost: Option<u64>) {
        self.metrics.gaps += 1;
        self.metrics.lost += lost.unwrap_or(0);
        self.act(ClusterAction::Gap { channel, from, lost });
    }
}
