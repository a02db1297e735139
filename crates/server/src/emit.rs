//! Whom an event goes to, and how

use std::sync::Arc;
use std::time::Duration;

use roomcast_core::{
    AckRequest, Args, Delivery, Event, IntoArgs, Overflow, Receipt, Room, Scope, SocketId, Target,
};

use crate::ack::{Answers, Collector};
use crate::error::EmitError;
use crate::names;
use crate::namespace::NamespaceState;

/// Whom an event goes to, and how; ends with [`emit`](Self::emit)
///
/// ```
/// # use roomcast_server::Io;
/// # let io = Io::new();
/// io.to("red").to("blue").except("muted").volatile().emit("position", (3, 4))?;
/// # Ok::<(), roomcast_server::EmitError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is sent before `emit`"]
pub struct Emit {
    namespace: Arc<NamespaceState>,
    target: Target,
    timeout: Duration,
    key: Option<Arc<str>>,
}

/// How long answers are waited for unless the application says otherwise
pub(crate) const ACK_TIMEOUT: Duration = Duration::from_secs(5);

impl Emit {
    pub(crate) fn new(namespace: Arc<NamespaceState>, target: Target) -> Self {
        Self { namespace, target, timeout: ACK_TIMEOUT, key: None }
    }

    #[doc = include_str!("../docs/to.md")]
    pub fn to(mut self, rooms: impl IntoRooms) -> Self {
        rooms.add_to(&mut self.target.rooms);
        self
    }

    #[doc = include_str!("../docs/to.md")]
    pub fn within(self, rooms: impl IntoRooms) -> Self {
        self.to(rooms)
    }

    #[doc = include_str!("../docs/except.md")]
    pub fn except(mut self, rooms: impl IntoRooms) -> Self {
        rooms.add_to(&mut self.target.except);
        self
    }

    #[doc = include_str!("../docs/volatile.md")]
    pub fn volatile(mut self) -> Self {
        self.target.delivery = Delivery::Volatile;
        self
    }

    #[doc = include_str!("../docs/local.md")]
    pub fn local(mut self) -> Self {
        self.target.scope = Scope::Node;
        self
    }

    #[doc = include_str!("../docs/timeout.md")]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    #[doc = include_str!("../docs/overflow.md")]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.target.overflow = overflow;
        self
    }

    /// Lets this event take the place of one with the same key that a client has not been sent yet
    ///
    /// For values of which only the latest matters, such as a position or a price. Sets
    /// [`Overflow::KeepLatest`].
    pub fn latest(mut self, key: impl Into<Arc<str>>) -> Self {
        self.key = Some(key.into());
        self.overflow(Overflow::KeepLatest)
    }

    /// Emits
    ///
    /// Waits for nobody: the event is encoded once for each kind of client and put into the outbox of each
    /// recipient. The receipt tells how many that were on this node.
    ///
    /// # Errors
    /// When the arguments cannot be serialised, or the name is one that the protocol keeps for itself. A
    /// recipient that cannot be reached is not an error; see [`Receipt`].
    pub fn emit(&self, event: &str, args: impl IntoArgs) -> Result<Receipt, EmitError> {
        let event = self.event(event, args)?;
        Ok(self.broadcast(&event))
    }

    /// Emits, and collects the answers until all have come or the [timeout](Self::timeout) is over
    ///
    /// The event is encoded once, however many are asked. Clients that cannot answer are reported as gone and not
    /// waited for.
    ///
    /// Cancel safe in that nothing is lost: dropped before its end, the event is sent and answers are ignored.
    ///
    /// # Errors
    /// As [`emit`](Self::emit). Missing answers are not an error; see [`Answers`].
    pub async fn emit_with_ack(&self, event: &str, args: impl IntoArgs) -> Result<Answers, EmitError> {
        let mut event = self.event(event, args)?;
        let answers = Collector::new();
        event.ack = Some(AckRequest { id: self.namespace.next_ack(), answers: answers.clone() });
        // What became of each is told to the collector, so the receipt has nothing to add.
        let _ = self.broadcast(&event);
        let _ = tokio::time::timeout(self.timeout, answers.wait()).await;
        Ok(answers.take())
    }

    fn broadcast(&self, event: &Event) -> Receipt {
        self.namespace.broadcast(&self.target, event)
    }

    fn event(&self, name: &str, args: impl IntoArgs) -> Result<Event, EmitError> {
        event(&self.namespace, name, args.into_args()?, self.key.clone())
    }
}

/// Event names that Socket.IO keeps for itself
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

pub(crate) fn event(
    namespace: &NamespaceState,
    name: &str,
    args: Args,
    key: Option<Arc<str>>,
) -> Result<Event, EmitError> {
    let name = names::shared(name);
    if RESERVED.contains(&&*name) {
        return Err(EmitError::ReservedName(name));
    }
    let mut event = Event::new(namespace.name.clone(), name, args);
    event.key = key;
    Ok(event)
}

/// One room or several
pub trait IntoRooms {
    /// Appends them
    fn add_to(self, rooms: &mut Vec<Room>);
}

macro_rules! one_room {
    ($($one:ty),*) => {$(
        impl IntoRooms for $one {
            fn add_to(self, rooms: &mut Vec<Room>) {
                rooms.push(self.into());
            }
        }
    )*};
}

one_room!(&str, String, Room, &SocketId);

impl IntoRooms for &String {
    fn add_to(self, rooms: &mut Vec<Room>) {
        rooms.push(self.as_str().into());
    }
}

impl IntoRooms for &Room {
    fn add_to(self, rooms: &mut Vec<Room>) {
        rooms.push(self.clone());
    }
}

impl<R: IntoRooms, const N: usize> IntoRooms for [R; N] {
    fn add_to(self, rooms: &mut Vec<Room>) {
        self.into_iter().for_each(|room| room.add_to(rooms));
    }
}

impl<R: IntoRooms> IntoRooms for Vec<R> {
    fn add_to(self, rooms: &mut Vec<Room>) {
        self.into_iter().for_each(|room| room.add_to(rooms));
    }
}
