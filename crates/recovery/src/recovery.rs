//! Trait of recovery implementations.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytestring::ByteString;
use roomcast_core::{Delivery, Event, EventLog, Member, MemberKey, Room, Router, SocketId};

use crate::{Order, Owner, RecoveryError, SharedData, StoredSession, Usage};

/// Router that retains the sessions of disconnected members, and recovers them.
///
/// A server that recovers sessions uses the router of a namespace through this trait. [`Sequencer`](crate::Sequencer)
/// retains everything in memory; another implementation may keep sessions and events in a store that several nodes
/// share.
///
/// Methods do not block, and the rules of [`Router`] apply. A member attached by [`Router::attach`] has no token, so
/// its session is never retained. `recovery_conformance!` in `roomcast-testkit` tests an implementation.
pub trait Recovery: Router {
    /// Attaches a member like [`Router::attach`], with what its session needs to be retained later.
    ///
    /// A store may write the session from now on, before the member disconnects.
    fn attach_recoverable(&self, member: Member, session: SessionInit) -> MemberKey;

    /// Detaches a member like [`Router::detach`], and retains its session for recovery.
    ///
    /// `data` is retained with the session and stays shared with it. `delivered_until` is a time before which all
    /// events emitted to the client are known to have arrived, such as the time of its last answer to a ping sent after
    /// them. Without it, a client that may have missed an event that is no longer retained is refused later. Returns
    /// `false` if the member was detached already.
    fn detach_and_retain(&self, key: MemberKey, data: SharedData, delivered_until: Option<Instant>) -> bool;

    /// Drops a retained session, so that it cannot be recovered; returns `false` if there is none.
    ///
    /// A [`PendingRecovery`] of it is refused.
    fn forget(&self, key: MemberKey) -> bool;

    /// Retains an event for the replay to a disconnected member.
    ///
    /// Returns `false` if the member's session is not retained, or if events of this kind are not retained.
    fn queue_for_absent(&self, key: MemberKey, delivery: Delivery, event: &Event) -> bool;

    /// Records that the data of a member or its handled events changed, whether it is attached or its session is
    /// retained.
    ///
    /// A retained session is dropped if it no longer fits the limits.
    fn data_changed(&self, key: MemberKey, data: &SharedData);

    /// Returns whether sessions are recovered by other processes too, with their
    /// [handled events](SharedData::handled). Default: no.
    fn shares_sessions(&self) -> bool {
        false
    }

    /// Records that events of other servers to a room, or to all members, were lost on the way here.
    ///
    /// A client that was disconnected at this time, or has received nothing since, cannot be recovered if it was in the
    /// room: it starts a new session, and knows that it has to load its state again.
    fn missed(&self, room: Option<&Room>);

    /// Returns the member with this recovery token that is attached here, if there is one.
    ///
    /// Its client has returned before its old connection is known to be dead. A server closes that connection, which
    /// retains the session, and then claims it. Implementations that return `None` refuse such a client.
    fn attached(&self, secret: &str) -> Option<(MemberKey, SocketId)> {
        _ = secret;
        None
    }

    /// Starts the recovery of a session by its token and the client's last offset, if any.
    ///
    /// After the pending recovery is dropped, the session can be claimed again. `budget` is the number of bytes that
    /// the client's outbox can take. An implementation that needs no I/O returns [`Claim::Ready`].
    ///
    /// # Errors
    /// The claim results in an error if the client has to start a new session. With [`RecoveryError::Overflow`] and
    /// [`RecoveryError::TooLarge`], the session is dropped.
    ///
    /// # Cancel safety
    /// Dropping a [`Claim::Pending`] at any point leaves the session claimable, or puts it back.
    fn claim(self: Arc<Self>, secret: &str, offset: Option<&str>, budget: usize) -> Claim;

    /// Uses a log of events that all nodes share; called before the first member is attached, if at all.
    ///
    /// Events that arrive without an [`offset`](Event::offset) are then not retained, since only the log's offsets are
    /// known to other nodes. Missed events are read from the log. [`queue_for_absent`](Self::queue_for_absent) does not
    /// retain an event, but returns whether the member can still recover: the server then writes the event to the log.
    ///
    /// Default: ignores it.
    fn use_event_log(&self, log: Arc<dyn EventLog>) {
        _ = log;
    }

    /// Starts the recovery of a session of another process, whose state a store has.
    ///
    /// Like [`claim`](Self::claim), with the missed events of a [shared log](Self::use_event_log). Dropping the result
    /// leaves no trace here: the store still has the session. Default: [`RecoveryError::Unknown`].
    ///
    /// # Errors
    /// The claim results in an error if the client has to start a new session.
    ///
    /// # Cancel safety
    /// As for `claim`.
    fn claim_stored(
        self: Arc<Self>,
        secret: &str,
        session: &StoredSession,
        offset: Option<&str>,
        budget: usize,
    ) -> Claim {
        _ = (secret, session, offset, budget);
        Claim::Ready(Err(RecoveryError::Unknown))
    }

    /// Returns the offset in the shared log, if there is one, after which an attached or retained member may have
    /// missed events, for a client that has no offset; empty if unknown.
    fn start(&self, key: MemberKey) -> Option<ByteString> {
        _ = key;
        None
    }

    /// Completes once everything that has changed is stored outside of this process. Default: at once.
    ///
    /// A server that shuts down calls it when its sessions have ended, and waits for a bounded time.
    fn flush(&self) -> Flushed<'_> {
        Box::pin(std::future::ready(()))
    }

    /// Returns the numbers of events and sessions retained by this node.
    fn usage(&self) -> Usage;
}

/// Parameters of a new session for its recovery.
#[derive(Clone)]
#[allow(clippy::exhaustive_structs, reason = "servers build it")]
pub struct SessionInit {
    /// Recovery token of the client.
    pub secret: ByteString,
    /// Owner against whose [share](crate::RecoveryConfig#shares) retained state counts. Without one, it counts against
    /// no share.
    pub owner: Option<Owner>,
    /// Data of the member, if any was set before it was attached.
    pub data: Option<SharedData>,
}

impl fmt::Debug for SessionInit {
    // The recovery token authenticates the client.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionInit").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// Future of [`Recovery::flush`].
pub type Flushed<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Result of a claim.
pub type ClaimResult = Result<Box<dyn PendingRecovery>, RecoveryError>;

/// Claim of a session: its result, or the future of it.
///
/// The result is separate so that a claim without I/O allocates no future.
#[allow(clippy::exhaustive_enums, reason = "servers match both")]
pub enum Claim {
    /// The claim completed at once.
    Ready(ClaimResult),
    /// The claim waits for a store.
    Pending(Pin<Box<dyn Future<Output = ClaimResult> + Send>>),
}

impl Claim {
    /// Waits for the result.
    ///
    /// # Errors
    /// Returns the error of [`Recovery::claim`].
    ///
    /// # Cancel safety
    /// After a cancellation, the session can be claimed again.
    pub async fn outcome(self) -> ClaimResult {
        match self {
            Self::Ready(result) => result,
            Self::Pending(future) => future.await,
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(result) => f.debug_tuple("Ready").field(result).finish(),
            Self::Pending(_) => f.write_str("Pending"),
        }
    }
}

/// Pending recovery of a returning client that has not been accepted yet.
///
/// Dropping it puts the retained session back.
pub trait PendingRecovery: Send + Sync + fmt::Debug {
    /// Returns the member's key.
    ///
    /// A session retained by this process keeps the key of its former member, so that handles from before the
    /// disconnect still refer to it.
    fn key(&self) -> MemberKey;

    /// Returns the public id.
    fn id(&self) -> &SocketId;

    /// Returns the recovery token.
    fn secret(&self) -> &ByteString;

    /// Returns the retained data.
    fn data(&self) -> &SharedData;

    /// Returns the retained rooms besides the member's own.
    fn rooms(&self) -> Vec<Room>;

    /// Returns whether the client skips the connect middlewares.
    fn skips_middlewares(&self) -> bool;

    /// Attaches the member, rejoins its rooms, and replays missed events ahead of all later ones.
    ///
    /// `member` has the retained [id](Self::id), and is attached under the retained [key](Self::key) instead of a new
    /// one. An `owner` replaces the retained one. `welcome` sends the acceptance to the client, at the position given
    /// by `order`. It is called at most once, under a lock, so it must only push to the outbox.
    ///
    /// # Errors
    /// Returns an error if the client has to start a new session: its time ran out, it missed too much in the meantime,
    /// or it was [forgotten](Recovery::forget). `welcome` is not called then, and the session is no longer retained.
    fn resume(
        self: Box<Self>,
        member: Member,
        owner: Option<Owner>,
        order: Order,
        welcome: &mut dyn FnMut(),
    ) -> Result<MemberKey, RecoveryError>;
}
