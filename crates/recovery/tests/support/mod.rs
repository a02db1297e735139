//! Manual clock, and clients that record received events.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use roomcast_core::{
    AckId, Args, Codec, Delivery, EncodeError, Event, Frame, IntoArgs, Member, MemberKey, Namespace,
    Overflow, Room, Target,
};
use roomcast_recovery::{
    Claim, ClaimResult, Order, Owner, Recovery, RecoveryConfig, RecoveryError, Sequencer, SessionInit,
};
use roomcast_rooms::Rooms;
use roomcast_testkit::MemberProbe;

/// Clock that advances only on request.
#[derive(Clone)]
pub(crate) struct Clock(Arc<Mutex<Instant>>);

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "the clock needs a starting point")]
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(crate) fn advance(&self, by: Duration) {
        *self.0.lock().expect("not poisoned") += by;
    }

    pub(crate) fn now(&self) -> Instant {
        *self.0.lock().expect("not poisoned")
    }
}

pub(crate) const EPOCH: &str = "0123456789abcdefghij";
pub(crate) const BUDGET: usize = 1 << 26;

pub(crate) fn sequencer(clock: &Clock, config: RecoveryConfig) -> Arc<Sequencer> {
    let clock = clock.clone();
    Arc::new(Sequencer::new(Arc::new(Rooms::default()), config, EPOCH, move || clock.now()))
}

/// Recovery under test, with an empty log.
pub(crate) fn recovery(clock: &Clock, config: RecoveryConfig) -> Arc<dyn Recovery> {
    sequencer(clock, config)
}

/// Claims a session from a recovery whose claims complete at once.
pub(crate) fn claim(
    recovery: &Arc<dyn Recovery>,
    secret: &str,
    offset: Option<&str>,
    budget: usize,
) -> ClaimResult {
    match recovery.clone().claim(secret, offset, budget) {
        Claim::Ready(result) => result,
        Claim::Pending(_) => panic!("claim in memory is pending"),
    }
}

pub(crate) fn offset(number: u64) -> String {
    format!("{EPOCH}-{number}")
}

/// Encodes an event as its offset, or `-`, a space, and its name.
#[derive(Debug, Default)]
pub(crate) struct OffsetCodec;

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
pub(crate) struct Client {
    pub(crate) id: String,
    codec: Arc<OffsetCodec>,
    pub(crate) sequencer: Arc<dyn Recovery>,
    probe: MemberProbe,
    pub(crate) key: MemberKey,
    /// Events received since it connected, in order.
    pub(crate) heard: Vec<String>,
    pub(crate) last: Option<String>,
    /// Time of its last answer to a ping sent after all events.
    pub(crate) pinged: Option<Instant>,
}

impl Client {
    pub(crate) fn connect(sequencer: &Arc<dyn Recovery>, id: &str, codec: &Arc<OffsetCodec>) -> Self {
        Self::connect_as(None, sequencer, id, codec)
    }

    pub(crate) fn connect_as(
        owner: Option<Owner>,
        sequencer: &Arc<dyn Recovery>,
        id: &str,
        codec: &Arc<OffsetCodec>,
    ) -> Self {
        let probe = MemberProbe::with_limit(id, codec, BUDGET);
        let key = sequencer.attach_recoverable(probe.member(), session(&secret_of(id), owner));
        let (codec, sequencer) = (codec.clone(), sequencer.clone());
        Self { id: id.to_owned(), codec, sequencer, probe, key, heard: Vec::new(), last: None, pinged: None }
    }

    pub(crate) fn secret(&self) -> String {
        secret_of(&self.id)
    }

    /// Receives the sent events, except for the last ones, which are lost.
    pub(crate) fn hear_all_but(&mut self, lost: usize) {
        let mut sent = self.probe.received();
        sent.truncate(sent.len().saturating_sub(lost));
        for text in sent {
            let (offset, name) = text.split_once(' ').unwrap_or((&text, ""));
            if name.is_empty() {
                self.heard.push(text.clone());
                continue;
            }
            if offset != "-" {
                self.last = Some(offset.to_owned());
            }
            self.heard.push(name.to_owned());
        }
    }

    pub(crate) fn hear(&mut self) {
        self.hear_all_but(0);
    }

    /// Receives everything, and confirms it with a ping.
    pub(crate) fn ping(&mut self, clock: &Clock) {
        self.hear();
        self.pinged = Some(clock.now());
    }

    pub(crate) fn take_heard(&mut self) -> Vec<String> {
        self.hear();
        std::mem::take(&mut self.heard)
    }

    /// Breaks the connection; the last `lost` events do not arrive.
    pub(crate) fn cut(&mut self, lost: usize) {
        assert!(self.sequencer.detach_and_retain(self.key, "null".into(), self.pinged.take()));
        self.hear_all_but(lost);
    }

    pub(crate) fn come_back(&mut self) -> Result<(), RecoveryError> {
        let claim = claim(&self.sequencer, &self.secret(), self.last.as_deref(), BUDGET)?;
        assert_eq!(claim.id().as_str(), self.id);
        let probe = MemberProbe::with_limit(&self.id, &self.codec, BUDGET);
        let member = probe.member();
        let outbox = member.outbox.clone();
        self.key = claim.resume(member, None, Order::MissedFirst, &mut || {
            outbox.push_protocol("welcome".into());
        })?;
        self.probe = probe;
        Ok(())
    }

    /// Sends an event to this client alone.
    pub(crate) fn send(&self, name: &str) {
        let member = Member { key: self.key, ..self.probe.member() };
        let _ = self.sequencer.send(&member, Delivery::Reliable, Overflow::Close, &mut event(name));
    }

    pub(crate) fn join(&self, room: &str) {
        self.sequencer.join(self.key, &Room::from(room));
    }

    pub(crate) fn rooms(&self) -> Vec<String> {
        let mut rooms: Vec<_> =
            self.sequencer.rooms_of(self.key).iter().map(|room| room.as_str().to_owned()).collect();
        rooms.sort();
        rooms
    }
}

fn secret_of(id: &str) -> String {
    format!("secret of {id}")
}

pub(crate) fn session(secret: &str, owner: Option<Owner>) -> SessionInit {
    SessionInit { secret: secret.into(), owner, data: None }
}

pub(crate) fn event(name: &str) -> Event {
    Event::new(Namespace::main(), name, ().into_args().expect("no arguments"))
}

pub(crate) fn to(rooms: &[&str]) -> Target {
    Target { rooms: rooms.iter().map(|room| Room::from(*room)).collect(), ..Target::default() }
}

pub(crate) fn emit(sequencer: &dyn Recovery, rooms: &[&str], name: &str) {
    sequencer.broadcast(&to(rooms), &event(name)).flush_backlog();
}

pub(crate) fn emit_volatile(sequencer: &dyn Recovery, rooms: &[&str], name: &str) {
    sequencer.broadcast(&Target { delivery: Delivery::Volatile, ..to(rooms) }, &event(name)).flush_backlog();
}
