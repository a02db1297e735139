//! Emit builder for a single socket.

use std::sync::Arc;
use std::time::Duration;

use roomcast_core::{Args, Delivery, Event, IntoArgs, Overflow, Receipt, SocketId, Target};

use crate::app::emit::answers::Collector;
use crate::app::emit::broadcast::Emit;
use crate::app::error::{AckError, EmitError};
use crate::app::into_rooms::IntoRooms;
use crate::app::model::socket::{Socket, one};
use crate::util::last_event;

/// Delivery options of an emit to one socket; finished by [`emit`](Self::emit).
///
/// ```
/// # fn f(socket: roomcast_server::Socket) -> Result<(), roomcast_server::EmitError> {
/// socket.volatile().emit("position", (3, 4))?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is sent before `emit`"]
pub struct SocketEmit {
    /// The socket if it is on this node.
    socket: Option<Socket>,
    id: SocketId,
    /// Delivery options, and the target if the socket is on another node.
    emit: Emit,
    /// Number of further attempts of [`emit_with_ack`](Self::emit_with_ack).
    retries: u32,
}

impl SocketEmit {
    pub(crate) fn here(socket: &Socket) -> Self {
        Self {
            socket: Some(socket.clone()),
            id: socket.id().clone(),
            emit: Emit::new(socket.state().clone(), Target::default()),
            retries: 0,
        }
    }

    /// Addresses a remote socket by the room of its id.
    pub(crate) fn by_id(id: SocketId, emit: Emit) -> Self {
        Self { socket: None, emit: emit.to(&id), id, retries: 0 }
    }

    #[doc = include_str!("../../../docs/volatile.md")]
    pub fn volatile(mut self) -> Self {
        self.emit = self.emit.volatile();
        self
    }

    #[doc = include_str!("../../../docs/compress.md")]
    pub fn compress(mut self, compress: bool) -> Self {
        self.emit = self.emit.compress(compress);
        self
    }

    #[doc = include_str!("../../../docs/timeout.md")]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.emit = self.emit.timeout(timeout);
        self
    }

    #[doc = include_str!("../../../docs/retries.md")]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    #[doc = include_str!("../../../docs/overflow.md")]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.emit = self.emit.overflow(overflow);
        self
    }

    #[doc = include_str!("../../../docs/latest.md")]
    pub fn latest(mut self, key: impl Into<Arc<str>>) -> Self {
        self.emit = self.emit.latest(key);
        self
    }

    #[doc = include_str!("../../../docs/to.md")]
    pub fn to(self, rooms: impl IntoRooms) -> Emit {
        self.broadcast().to(rooms)
    }

    #[doc = include_str!("../../../docs/within.md")]
    #[doc(alias = "in")]
    pub fn within(self, rooms: impl IntoRooms) -> Emit {
        let mut emit = self.emit;
        emit.target.rooms.clear();
        emit.within(rooms)
    }

    #[doc = include_str!("../../../docs/except.md")]
    pub fn except(self, rooms: impl IntoRooms) -> Emit {
        self.broadcast().except(rooms)
    }

    #[doc = include_str!("../../../docs/local.md")]
    pub fn local(self) -> Emit {
        self.broadcast().local()
    }

    #[doc = include_str!("../../../docs/broadcast.md")]
    pub fn broadcast(self) -> Emit {
        let mut emit = self.emit;
        match self.socket {
            Some(socket) => emit.target.skip = Some(socket.key()),
            None => {
                emit.target.rooms.clear();
                emit = emit.except(&self.id);
            }
        }
        emit
    }

    #[doc = include_str!("../../../docs/emit.md")]
    pub fn emit(&self, event: &str, args: impl IntoArgs) -> Result<Receipt, EmitError> {
        match &self.socket {
            None => self.emit.emit(event, args),
            Some(socket) => {
                let receipt = self.hand_to(socket, &mut self.emit.event(event, args)?);
                one(receipt)
            }
        }
    }

    #[doc = include_str!("../../../docs/send.md")]
    pub fn send(&self, args: impl IntoArgs) -> Result<Receipt, EmitError> {
        self.emit("message", args)
    }

    #[doc = include_str!("../../../docs/emit_with_ack_one.md")]
    pub async fn emit_with_ack(&self, event: &str, args: impl IntoArgs) -> Result<Args, AckError> {
        let event = self.emit.event(event, args)?;
        let answers = Collector::of(&self.id);
        let mut result = match &self.socket {
            Some(socket) => self.ask_here(socket, &event, &answers).await,
            None => self.ask_by_id(&event, &answers).await,
        };
        for _ in 0..self.retries {
            match result {
                Err(AckError::Timeout) => {}
                Err(AckError::Disconnected) if self.may_return() => {}
                _ => break,
            }
            result = self.ask_again(&event, &answers).await;
        }
        result
    }

    /// Sends the event to the client where it is connected now, once it is; at most for the timeout.
    async fn ask_again(&self, event: &Event, answers: &Arc<Collector>) -> Result<Args, AckError> {
        let mut is_away = false;
        let ask = async {
            let mut pause = FIRST_PAUSE;
            loop {
                answers.begin_again();
                let result = match self.socket.as_ref().filter(|socket| socket.is_connected()) {
                    Some(socket) => self.ask_here(socket, event, answers).await,
                    None => self.ask_by_id(event, answers).await,
                };
                if !matches!(result, Err(AckError::Disconnected)) || !self.may_return() {
                    return result;
                }
                is_away = true;
                tokio::time::sleep(pause).await;
                is_away = false;
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
        };
        let asked = tokio::time::timeout(self.emit.timeout, ask).await;
        asked.unwrap_or_else(|_| Err(if is_away { AckError::Disconnected } else { AckError::Timeout }))
    }

    /// Returns whether a client that has disconnected may be recovered, with the same id.
    fn may_return(&self) -> bool {
        match &self.socket {
            Some(socket) => socket.may_return(),
            None => self.emit.namespace.recovery.is_some(),
        }
    }

    async fn ask_here(
        &self,
        socket: &Socket,
        event: &Event,
        answers: &Arc<Collector>,
    ) -> Result<Args, AckError> {
        let receipt = self.emit.ask_by(event, answers, |event| self.hand_to(socket, event)).await;
        match answers.take_answer() {
            Some(answer) => Ok(answer),
            None => Err(unanswered(receipt, answers.is_awaited())),
        }
    }

    async fn ask_by_id(&self, event: &Event, answers: &Arc<Collector>) -> Result<Args, AckError> {
        let to_id = self.socket.is_some().then(|| self.emit.clone().to(&self.id));
        let (receipt, missing_nodes) = to_id.as_ref().unwrap_or(&self.emit).ask_all(event, answers).await;
        // A socket on another node is addressed alone, but a Node server does not name it.
        match answers.take_answer().or_else(|| answers.take_anonymous()) {
            Some(answer) => Ok(answer),
            None => Err(unanswered(receipt, answers.is_awaited() || missing_nodes != Some(0))),
        }
    }

    pub(crate) fn socket(&self) -> Option<&Socket> {
        self.socket.as_ref()
    }

    pub(crate) fn operators(&self) -> &Emit {
        &self.emit
    }

    fn hand_to(&self, socket: &Socket, event: &mut Event) -> Receipt {
        let target = &self.emit.target;
        socket.hand(target.delivery, target.overflow, event)
    }
}

/// Returns the reason for a missing answer; `is_awaited` if a client may still answer.
fn unanswered(receipt: Receipt, is_awaited: bool) -> AckError {
    if is_awaited {
        AckError::Timeout
    } else if receipt.unsupported > 0 {
        AckError::Unsupported
    } else if receipt.dropped > 0 && receipt.queued == 0 {
        AckError::Dropped
    } else {
        AckError::Disconnected
    }
}

/// Pauses between two searches for a client that has disconnected.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Socket {
    #[doc = include_str!("../../../docs/emit.md")]
    pub fn emit(&self, event: &str, args: impl IntoArgs) -> Result<Receipt, EmitError> {
        self.emit_args(event, args.into_args()?)
    }

    /// Part of [`emit`](Self::emit) that does not depend on the type of the arguments.
    fn emit_args(&self, event: &str, args: Args) -> Result<Receipt, EmitError> {
        let mut event = match last_event::take_last(&self.state().name, event, args) {
            Ok(event) => {
                self.state().check_attachments(&event.args)?;
                self.state().budget.admit()?;
                event
            }
            Err(args) => Box::new(crate::app::emit::broadcast::event(self.state(), event, args, None)?),
        };
        let receipt = self.hand(Delivery::Reliable, Overflow::Inherit, &mut event);
        last_event::keep_last(event);
        one(receipt)
    }

    #[doc = include_str!("../../../docs/send.md")]
    pub fn send(&self, args: impl IntoArgs) -> Result<Receipt, EmitError> {
        self.emit("message", args)
    }

    #[doc = include_str!("../../../docs/emit_with_ack_one.md")]
    pub async fn emit_with_ack(&self, event: &str, args: impl IntoArgs) -> Result<Args, AckError> {
        SocketEmit::here(self).emit_with_ack(event, args).await
    }

    #[doc = include_str!("../../../docs/volatile.md")]
    pub fn volatile(&self) -> SocketEmit {
        SocketEmit::here(self).volatile()
    }

    #[doc = include_str!("../../../docs/compress.md")]
    pub fn compress(&self, compress: bool) -> SocketEmit {
        SocketEmit::here(self).compress(compress)
    }

    #[doc = include_str!("../../../docs/timeout.md")]
    pub fn timeout(&self, timeout: Duration) -> SocketEmit {
        SocketEmit::here(self).timeout(timeout)
    }

    #[doc = include_str!("../../../docs/retries.md")]
    pub fn retries(&self, retries: u32) -> SocketEmit {
        SocketEmit::here(self).retries(retries)
    }

    #[doc = include_str!("../../../docs/overflow.md")]
    pub fn overflow(&self, overflow: Overflow) -> SocketEmit {
        SocketEmit::here(self).overflow(overflow)
    }

    #[doc = include_str!("../../../docs/latest.md")]
    pub fn latest(&self, key: impl Into<Arc<str>>) -> SocketEmit {
        SocketEmit::here(self).latest(key)
    }

    #[doc = include_str!("../../../docs/to.md")]
    pub fn to(&self, rooms: impl IntoRooms) -> Emit {
        self.broadcast().to(rooms)
    }

    #[doc = include_str!("../../../docs/within.md")]
    #[doc(alias = "in")]
    pub fn within(&self, rooms: impl IntoRooms) -> Emit {
        self.namespace().within(rooms)
    }

    #[doc = include_str!("../../../docs/except.md")]
    pub fn except(&self, rooms: impl IntoRooms) -> Emit {
        self.broadcast().except(rooms)
    }

    #[doc = include_str!("../../../docs/broadcast.md")]
    pub fn broadcast(&self) -> Emit {
        let target = Target { skip: Some(self.key()), ..Target::default() };
        Emit::new(self.state().clone(), target)
    }

    #[doc = include_str!("../../../docs/local.md")]
    pub fn local(&self) -> Emit {
        self.broadcast().local()
    }
}
