//! Broadcast builder: recipients and delivery options.

use std::sync::Arc;
use std::time::Duration;

use roomcast_core::{
    AckRequest, Args, ByteString, Delivery, Event, IntoArgs, Membership, Overflow, Receipt, Scope, Target,
};

use crate::app::emit::answers::{Answers, Collector};
use crate::app::error::{ConfirmError, EmitError};
use crate::app::into_rooms::{IntoRooms, into_rooms};
use crate::app::model::namespace_state::NamespaceState;
use crate::util::log_limit::log_limited;

/// Recipients and delivery options of a broadcast; finished by [`emit`](Self::emit).
///
/// Returned by the operators of [`Io`](crate::Io), [`NamespaceHandle`](crate::namespace::NamespaceHandle) and
/// [`Socket`](crate::Socket), which chain as on Node. It can be stored and reused. The same selection also lists
/// ([`fetch_sockets`](Self::fetch_sockets)), moves between rooms and disconnects the matching sockets.
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
    pub(crate) namespace: Arc<NamespaceState>,
    pub(crate) target: Target,
    pub(crate) timeout: Duration,
    key: Option<Arc<str>>,
    compress: bool,
}

/// Default ack timeout.
pub(crate) const ACK_TIMEOUT: Duration = Duration::from_secs(5);

impl Emit {
    pub(crate) fn new(namespace: Arc<NamespaceState>, target: Target) -> Self {
        Self { namespace, target, timeout: ACK_TIMEOUT, key: None, compress: true }
    }

    #[doc = include_str!("../../../docs/to.md")]
    pub fn to(mut self, rooms: impl IntoRooms) -> Self {
        rooms.add_to(&mut self.target.rooms);
        self
    }

    #[doc = include_str!("../../../docs/to.md")]
    pub fn within(self, rooms: impl IntoRooms) -> Self {
        self.to(rooms)
    }

    #[doc = include_str!("../../../docs/except.md")]
    pub fn except(mut self, rooms: impl IntoRooms) -> Self {
        rooms.add_to(&mut self.target.except);
        self
    }

    #[doc = include_str!("../../../docs/volatile.md")]
    pub fn volatile(mut self) -> Self {
        self.target.delivery = Delivery::Volatile;
        self
    }

    #[doc = include_str!("../../../docs/local.md")]
    pub fn local(mut self) -> Self {
        self.target.scope = Scope::Node;
        self
    }

    #[doc = include_str!("../../../docs/timeout.md")]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    #[doc = include_str!("../../../docs/overflow.md")]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.target.overflow = overflow;
        self
    }

    #[doc = include_str!("../../../docs/compress.md")]
    pub fn compress(mut self, compress: bool) -> Self {
        self.compress = compress;
        self
    }

    #[doc = include_str!("../../../docs/latest.md")]
    pub fn latest(mut self, key: impl Into<Arc<str>>) -> Self {
        self.key = Some(key.into());
        self.overflow(Overflow::KeepLatest)
    }

    #[doc = include_str!("../../../docs/emit.md")]
    pub fn emit(&self, event: &str, args: impl IntoArgs) -> Result<Receipt, EmitError> {
        let event = self.event(event, args)?;
        Ok(self.broadcast(&event))
    }

    #[doc = include_str!("../../../docs/send.md")]
    pub fn send(&self, args: impl IntoArgs) -> Result<Receipt, EmitError> {
        self.emit("message", args)
    }

    #[doc = include_str!("../../../docs/emit_confirmed.md")]
    #[doc(alias = "broadcast_confirmed")]
    pub async fn emit_confirmed(&self, event: &str, args: impl IntoArgs) -> Result<Receipt, ConfirmError> {
        let event = self.event(event, args)?;
        let confirming = self.namespace.confirming();
        let receipt = self.broadcast(&event);
        self.namespace.confirm(receipt.published, confirming, self.timeout).await?;
        Ok(receipt)
    }

    #[doc = include_str!("../../../docs/emit_with_ack.md")]
    pub async fn emit_with_ack(&self, event: &str, args: impl IntoArgs) -> Result<Answers, EmitError> {
        let event = self.event(event, args)?;
        Ok(self.ask(event).await.1)
    }

    #[doc = include_str!("../../../docs/sockets_join.md")]
    pub fn sockets_join(&self, rooms: impl IntoRooms) -> usize {
        let mut rooms = into_rooms(rooms);
        let before = rooms.len();
        rooms.retain(|room| self.namespace.fits(room));
        if rooms.len() < before {
            log_limited!(WARN, (), namespace = %self.namespace.name, "join refused: room name too long");
        }
        self.namespace.update(&self.target, &Membership::Join(rooms))
    }

    #[doc = include_str!("../../../docs/sockets_leave.md")]
    pub fn sockets_leave(&self, rooms: impl IntoRooms) -> usize {
        self.namespace.update(&self.target, &Membership::Leave(into_rooms(rooms)))
    }

    #[doc = include_str!("../../../docs/disconnect.md")]
    #[doc(alias = "disconnect_sockets")]
    pub fn disconnect(&self) -> usize {
        self.namespace.disconnect(&self.target, false)
    }

    #[doc = include_str!("../../../docs/disconnect_client.md")]
    #[doc(alias = "disconnect_sockets")]
    pub fn disconnect_client(&self) -> usize {
        self.namespace.disconnect(&self.target, true)
    }

    /// Emits and collects answers until all have arrived or the timeout expires.
    pub(crate) async fn ask(&self, event: Event) -> (Receipt, Answers) {
        let collector = Collector::new();
        let (receipt, missing_nodes) = self.ask_all(&event, &collector).await;
        (receipt, Answers { missing_nodes, ..collector.take() })
    }

    /// Emits and waits until all have answered or the timeout expires; returns the number of missing nodes.
    pub(crate) async fn ask_all(&self, event: &Event, answers: &Arc<Collector>) -> (Receipt, Option<usize>) {
        let event = self.asking(event, answers);
        let receipt = self.broadcast(&event);
        let elsewhere = self.namespace.ask_others(&self.target, &event, self.timeout, &**answers);
        let here = tokio::time::timeout(self.timeout, answers.wait());
        let (_, elsewhere) = tokio::join!(here, elsewhere);
        (receipt, elsewhere.map_or_else(|error| error.missing, |()| Some(0)))
    }

    /// Sends an event with an ack request through `hand_over`, and waits for the answers.
    pub(crate) async fn ask_by(
        &self,
        event: &Event,
        answers: &Arc<Collector>,
        hand_over: impl FnOnce(&mut Event) -> Receipt,
    ) -> Receipt {
        let receipt = hand_over(&mut self.asking(event, answers));
        let _ = tokio::time::timeout(self.timeout, answers.wait()).await;
        receipt
    }

    fn asking(&self, event: &Event, answers: &Arc<Collector>) -> Event {
        let ack = Some(AckRequest { id: self.namespace.next_ack(), answers: answers.clone() });
        Event { ack, ..event.clone() }
    }

    fn broadcast(&self, event: &Event) -> Receipt {
        self.namespace.broadcast(&self.target, event)
    }

    pub(crate) fn event(&self, name: &str, args: impl IntoArgs) -> Result<Event, EmitError> {
        let event = event(&self.namespace, name, args.into_args()?, self.key.clone())?;
        Ok(Event { compress: self.compress, ..event })
    }
}

/// Event names reserved by Socket.IO.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

pub(crate) fn event(
    namespace: &NamespaceState,
    name: &str,
    args: Args,
    key: Option<Arc<str>>,
) -> Result<Event, EmitError> {
    namespace.budget.admit()?;
    let name = checked_name(name)?;
    namespace.check_attachments(&args)?;
    let mut event = Event::new(namespace.name.clone(), name, args);
    event.key = key;
    Ok(event)
}

/// Returns the event name, or an error if Socket.IO reserves it.
pub(crate) fn checked_name(name: &str) -> Result<ByteString, EmitError> {
    let name = ByteString::from(name);
    if RESERVED.contains(&&*name) { Err(EmitError::ReservedName(name)) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Io;

    #[test]
    fn keeps_compress_flag_through_operators() {
        let io = Io::new();
        let event = |emit: Emit| emit.event("news", ()).expect("a name");
        assert!(event(io.to("red")).compress);
        assert!(!event(io.compress(false).to("red")).compress);
        assert!(event(io.compress(false).compress(true)).compress);
    }
}
