//! Client of a recovery implementation, which loses its connection and returns.

use std::sync::Arc;
use std::time::{Duration, Instant};

use roomcast_core::{
    AckId, Args, Codec, Delivery, EncodeError, Event, Frame, IntoArgs, Member, MemberKey, Namespace,
    Overflow, Room, Target,
};
use roomcast_recovery::{
    ClaimResult, Order, PendingRecovery, Recovery, RecoveryError, SessionInit, SharedData,
};

use crate::MemberProbe;

/// Bytes that a recovery may replay, unless a case sets another limit.
pub(super) const BUDGET: usize = 1 << 24;
/// Virtual time in which a claim must end.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(60);
/// Frame of the acceptance.
pub(super) const WELCOME: &str = "welcome";

/// Encodes an event as its offset, or `-`, a space, and its name.
#[derive(Debug)]
struct OffsetCodec;

impl Codec for OffsetCodec {
    fn encode(&self, event: &Event) -> Result<Frame, EncodeError> {
        let offset = event.offset.as_deref().unwrap_or("-");
        Ok(Frame::new(format!("{offset} {}", event.name)))
    }

    fn encode_answer(&self, _: &Namespace, _: AckId, _: &Args) -> Result<Frame, EncodeError> {
        Err(EncodeError::Ack)
    }
}

/// Client that remembers its last offset.
pub(super) struct Client {
    recovery: Arc<dyn Recovery>,
    codec: Arc<OffsetCodec>,
    id: String,
    probe: MemberProbe,
    pub(super) key: MemberKey,
    pub(super) offset: Option<String>,
}

impl Client {
    /// Attaches a member of this id, with its own token.
    pub(super) fn attach(recovery: &Arc<dyn Recovery>, id: &str) -> Self {
        let codec = Arc::new(OffsetCodec);
        let probe = MemberProbe::with_limit(id, &codec, BUDGET);
        let session = SessionInit { secret: secret(id).into(), owner: None, data: None };
        let key = recovery.attach_recoverable(probe.member(), session);
        Self { recovery: recovery.clone(), codec, id: id.to_owned(), probe, key, offset: None }
    }

    pub(super) fn secret(&self) -> String {
        secret(&self.id)
    }

    pub(super) fn join(&self, room: &str) {
        self.recovery.join(self.key, &Room::from(room));
    }

    /// Returns the names of the events that arrived since the last call, and `welcome`.
    pub(super) fn heard(&mut self) -> Vec<String> {
        self.heard_all_but(0)
    }

    /// Receives the sent events, except for the last ones, which are lost.
    pub(super) fn heard_all_but(&mut self, lost: usize) -> Vec<String> {
        let mut sent = self.probe.received();
        sent.truncate(sent.len().saturating_sub(lost));
        let mut names = Vec::new();
        for text in sent {
            match text.split_once(' ') {
                Some((offset, name)) => {
                    self.offset =
                        Some(offset.to_owned()).filter(|offset| offset != "-").or_else(|| self.offset.take());
                    names.push(name.to_owned());
                }
                None => names.push(text),
            }
        }
        names
    }

    /// Loses the connection, and the events that were not received.
    pub(super) fn lose(&self) {
        self.lose_with(SharedData::from("null"), None);
    }

    pub(super) fn lose_with(&self, data: SharedData, delivered_until: Option<Instant>) {
        let detached = self.recovery.detach_and_retain(self.key, data, delivered_until);
        assert!(detached, "{} was attached", self.id);
    }

    pub(super) async fn claim(&self) -> ClaimResult {
        claim(&self.recovery, &self.secret(), self.offset.as_deref(), BUDGET).await
    }

    pub(super) async fn come_back(&mut self) -> Result<(), RecoveryError> {
        let pending = self.claim().await?;
        self.resume(pending, Order::MissedFirst)
    }

    /// Returns by this pending recovery, on a new connection.
    pub(super) fn resume(
        &mut self,
        pending: Box<dyn PendingRecovery>,
        order: Order,
    ) -> Result<(), RecoveryError> {
        assert_eq!(pending.id().as_str(), self.id, "the id is kept");
        assert_eq!(pending.secret().as_ref() as &str, self.secret(), "the token is kept");
        let probe = MemberProbe::with_limit(&self.id, &self.codec, BUDGET);
        let (member, key) = (probe.member(), pending.key());
        let outbox = member.outbox.clone();
        let mut welcomes = 0;
        let resumed = pending.resume(member, None, order, &mut || {
            welcomes += 1;
            let _ = outbox.push_protocol(WELCOME.into());
        });
        assert_eq!(welcomes, usize::from(resumed.is_ok()), "welcome is called once, and only on success");
        assert!(resumed.is_err() || resumed == Ok(key), "the member has the key of its claim");
        self.key = resumed?;
        self.probe = probe;
        Ok(())
    }

    /// Emits an event to this client alone.
    pub(super) fn send(&self, name: &str) {
        let member = Member { key: self.key, ..self.probe.member() };
        let _ = self.recovery.send(&member, Delivery::Reliable, Overflow::Close, &mut event(name));
    }

    /// Returns its rooms besides its own.
    pub(super) fn rooms(&self) -> Vec<String> {
        let rooms = self.recovery.rooms_of(self.key);
        let mut rooms: Vec<_> =
            rooms.iter().map(|room| room.as_str().to_owned()).filter(|room| *room != self.id).collect();
        rooms.sort();
        rooms
    }
}

/// Claims a session; panics if the claim does not end.
pub(super) async fn claim(
    recovery: &Arc<dyn Recovery>,
    secret: &str,
    offset: Option<&str>,
    budget: usize,
) -> ClaimResult {
    let claim = recovery.clone().claim(secret, offset, budget);
    tokio::time::timeout(CLAIM_TIMEOUT, claim.outcome()).await.expect("the claim ends")
}

fn secret(id: &str) -> String {
    format!("secret of {id}")
}

pub(super) fn event(name: &str) -> Event {
    Event::new(Namespace::main(), name, ().into_args().expect("no arguments"))
}

pub(super) fn to(rooms: &[&str]) -> Target {
    Target { rooms: rooms.iter().map(|room| Room::from(*room)).collect(), ..Target::default() }
}

pub(super) fn emit(recovery: &Arc<dyn Recovery>, rooms: &[&str], name: &str) {
    recovery.broadcast(&to(rooms), &event(name)).flush_backlog();
}
