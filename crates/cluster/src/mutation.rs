//! Named defects, to prove that the fault suite finds them.

#![cfg_attr(not(feature = "mutations"), allow(unreachable_pub))]

/// Defect of the state machine; the fault suite must find each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "for the tests of this crate only")]
pub enum Mutation {
    /// A message that was delivered before is delivered again.
    DeliverDuplicates,
    /// Frames of a batch are written in reverse order.
    ReverseBatches,
    /// A gap in the numbers of a stream is not reported.
    HideGaps,
    /// The ends of idle streams are not listed in heartbeats.
    OmitTails,
    /// Listed ends of streams are not compared with what arrived.
    IgnoreTails,
    /// A heartbeat after many missing ones is taken as if none were missing.
    IgnoreMissedHeartbeats,
    /// Reports of other nodes that they have published nothing for a while are ignored.
    IgnoreOmissions,
    /// Missing frames of a node are not reported when the node ends.
    ForgetMissing,
    /// The loss of a subscription is not reported.
    HideLostSubscriptions,
    /// A lost subscription is not requested again.
    NeverResubscribe,
    /// A subscription that was not confirmed in time is not requested again.
    NeverRetrySubscribe,
    /// A join completes when the subscription is requested.
    ConfirmJoinsEarly,
    /// A join waits for its confirmation without a deadline.
    JoinsWaitForever,
    /// A room that was joined again while its unsubscription was delayed is unsubscribed.
    UnsubscribeRejoined,
    /// A room without members stays subscribed.
    NeverUnsubscribe,
    /// Each join causes a separate command.
    SubscribeEachJoin,
    /// Messages of older incarnations are delivered.
    AcceptStale,
    /// A node that was declared dead is not notified.
    NeverFence,
    /// A notification of having been declared dead is ignored.
    IgnoreFence,
    /// A node that was frozen declares the others dead, since it has not heard them.
    BlameOthersAfterFreeze,
    /// Silent nodes are never declared dead.
    NeverDeclareDead,
    /// A goodbye is ignored.
    IgnoreGoodbye,
    /// A request has no deadline.
    ForgetDeadlines,
    /// A request waits for nodes that have died in the meantime.
    WaitForDeadNodes,
    /// The nodes that did not answer are not named.
    OmitMissingNodes,
    /// Requests survive a change of incarnation.
    KeepRequestsOnRejoin,
    /// Parts of an interrupted publication are joined with parts of the next one.
    JoinPartsAcrossGaps,
    /// A publication to several rooms is delivered once for each channel.
    DeliverEachCopy,
    /// A publication to several rooms is delivered as soon as its first copy arrives.
    DeliverFirstCopy,
    /// A publication is delivered after a later one to several rooms, one of which it was sent to.
    DeliverOvertaken,
    /// The queue towards the engine has no limit.
    UnboundedQueue,
    /// An unsubscribe command is sent after the subscribe command of a later join.
    UnsubscribeLate,
}

#[cfg(feature = "mutations")]
impl Mutation {
    /// All defects.
    pub const ALL: [Self; 32] = [
        Self::DeliverDuplicates,
        Self::ReverseBatches,
        Self::HideGaps,
        Self::OmitTails,
        Self::IgnoreTails,
        Self::IgnoreMissedHeartbeats,
        Self::IgnoreOmissions,
        Self::ForgetMissing,
        Self::HideLostSubscriptions,
        Self::NeverResubscribe,
        Self::NeverRetrySubscribe,
        Self::ConfirmJoinsEarly,
        Self::JoinsWaitForever,
        Self::UnsubscribeRejoined,
        Self::NeverUnsubscribe,
        Self::SubscribeEachJoin,
        Self::AcceptStale,
        Self::NeverFence,
        Self::IgnoreFence,
        Self::BlameOthersAfterFreeze,
        Self::NeverDeclareDead,
        Self::IgnoreGoodbye,
        Self::ForgetDeadlines,
        Self::WaitForDeadNodes,
        Self::OmitMissingNodes,
        Self::KeepRequestsOnRejoin,
        Self::JoinPartsAcrossGaps,
        Self::DeliverEachCopy,
        Self::DeliverFirstCopy,
        Self::DeliverOvertaken,
        Self::UnboundedQueue,
        Self::UnsubscribeLate,
    ];
}
