//! Outcome of a publication to other nodes.

use std::ops::AddAssign;

/// Outcome of a publication to the other nodes of a cluster, so far as it is known at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::exhaustive_enums, reason = "clusters build it, applications match it")]
pub enum Published {
    /// There was nothing to publish: no cluster, no other node, or a target on this node only.
    #[default]
    NotNeeded,
    /// It was queued for the cluster's message engine.
    Accepted,
    /// It was refused, so other nodes do not receive it.
    Refused(PublishRefusal),
}

impl Published {
    /// Returns whether there was no reason to publish.
    #[must_use]
    pub fn is_not_needed(&self) -> bool {
        *self == Self::NotNeeded
    }

    /// Returns the reason of a refusal.
    #[must_use]
    pub fn refusal(self) -> Option<PublishRefusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::NotNeeded | Self::Accepted => None,
        }
    }
}

/// Keeps the first refusal; otherwise whether anything was published.
impl AddAssign for Published {
    fn add_assign(&mut self, other: Self) {
        *self = match (*self, other) {
            (Self::Refused(refusal), _) | (_, Self::Refused(refusal)) => Self::Refused(refusal),
            (Self::Accepted, _) | (_, Self::Accepted) => Self::Accepted,
            (Self::NotNeeded, Self::NotNeeded) => Self::NotNeeded,
        };
    }
}

/// Reason for refusing a publication to other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PublishRefusal {
    /// It exceeds the largest publication of the cluster.
    #[error("it exceeds the cluster's largest publication")]
    TooLarge,
    /// It names more rooms than the cluster allows.
    #[error("it names too many rooms")]
    TooManyRooms,
    /// The queue towards the engine is full: the engine is down or too slow.
    #[error("the queue towards the cluster's message engine is full")]
    QueueFull,
    /// The cluster has no form for it.
    #[error("the cluster has no form for it")]
    Unsupported,
    /// The node has left the cluster.
    #[error("the node has left the cluster")]
    Left,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_keeps_refusal() {
        let mut sum = Published::default();
        assert!(sum.is_not_needed());
        sum += Published::Accepted;
        sum += Published::NotNeeded;
        assert_eq!((sum, sum.refusal()), (Published::Accepted, None));
        sum += Published::Refused(PublishRefusal::QueueFull);
        sum += Published::Accepted;
        assert_eq!(sum.refusal(), Some(PublishRefusal::QueueFull));
    }
}
