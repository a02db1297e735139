//! Chat of two clients beside broadcasts to a crowd without them: latency added by the broadcasts.
//!
//! One thread reads both, since it has a CPU of its own and a second thread there would wait for the first. The two
//! have an epoll instance of their own, and it is looked at after every few messages that the crowd was read, so what
//! a chat message waits in the generator is microseconds, and is [reported](ChatReport::looked_p99_us). The generator
//! never sleeps here.

use std::time::Duration;

use super::exchange::{Exchange, LISTEN_ON};
use super::meter::Reading;
use super::probing::probe;
use super::settings::Settings;
use super::stamp::{Action, Filler, Stamp, is_intact};
use super::swarm::{Patience, Swarm};
use super::verifier::Verifier;
use super::{Scenario, Watch};
use crate::latencies::Latencies;
use crate::process::now;
use crate::report::ChatReport;
use crate::{Error, Report};

/// Measures the chat alone, and then beside one broadcast after the other.
pub(super) fn run(settings: &Settings, watch: &mut dyn Watch, report: &mut Report) -> Result<(), Error> {
    let crowd = Settings {
        scenario: Scenario::Rooms,
        groups: 1,
        senders: 1,
        outstanding: 1,
        spin: true,
        ..settings.clone()
    };
    (report.senders, report.outstanding) = (1, 1);
    let mut both = Both::connect(&crowd, watch)?;
    let outcome = both.measure(&crowd, report);
    report.faults = both.exchange.faults();
    report.faults += both.talk.verifier.finish();
    outcome
}

struct Both {
    crowd: Swarm,
    exchange: Exchange,
    pair: Swarm,
    talk: Talk,
    /// When the broadcast that is under way was sent.
    launched: u64,
    /// From sending to the last receipt, of each broadcast in the window.
    lengths: Latencies,
}

/// Two clients that answer each other.
struct Talk {
    payload: usize,
    filler: Filler,
    verifier: Verifier,
    /// Clients that received a probe.
    reached: [bool; 2],
    /// A question or its answer is under way.
    talking: bool,
    /// Next sender of the chat, by the message received.
    answers: Option<u16>,
    asked: u64,
    heard: u64,
    looked: u64,
    ways: Latencies,
    looks: Latencies,
}

impl Both {
    fn connect(settings: &Settings, watch: &mut dyn Watch) -> Result<Self, Error> {
        let mut crowd = Swarm::connect(settings, watch)?;
        let mut exchange = Exchange::new(settings);
        probe(&mut exchange, &mut crowd, settings)?;
        exchange.begin();
        let two = Settings { clients: 2, ..settings.clone() };
        let mut pair = Swarm::connect(&two, watch)?;
        let mut talk = Talk::new(settings);
        talk.join(&mut pair, settings)?;
        Ok(Self { crowd, exchange, pair, talk, launched: 0, lengths: Latencies::new() })
    }

    fn measure(&mut self, settings: &Settings, report: &mut Report) -> Result<(), Error> {
        self.go_on(settings.warmup, false, settings)?;
        self.forget();
        self.go_on(settings.window, false, settings)?;
        let quiet = std::mem::take(&mut self.talk.ways);

        self.go_on(settings.warmup, true, settings)?;
        self.forget();
        let (start, before) = (Reading::take(settings.pid)?, self.exchange.begin_window());
        self.go_on(settings.window, true, settings)?;
        let end = Reading::take(settings.pid)?;
        report.sent = self.exchange.counts().sent - before.sent;
        self.exchange.report(&start, &end, self.exchange.counts().deliveries - before.deliveries, report)?;
        report.chat = self.report(&quiet);
        if report.chat.is_none() {
            return Err(Error::Stalled(
                "no broadcast or no chat message came to its end in the window".into(),
            ));
        }
        self.exchange.end_window();
        // A message that does not arrive counts as lost, so a stall here needs no error.
        let mut patience = Patience::new(settings.stall);
        while self.is_unfinished() && self.turn(false, &mut patience).is_ok() {}
        let end = now() + LISTEN_ON;
        while now() < end {
            self.turn(false, &mut patience)?;
        }
        Ok(())
    }

    /// Returns whether a message is in flight, including one that the server still has to relay.
    fn is_unfinished(&self) -> bool {
        self.exchange.is_flying() || self.talk.talking || self.talk.verifier.finish().lost > 0
    }

    fn report(&self, quiet: &Latencies) -> Option<ChatReport> {
        let micros = |of: &Latencies, share| of.percentile(share).map(|nanos| nanos as f64 / 1e3);
        let (ways, looks) = (&self.talk.ways, &self.talk.looks);
        Some(ChatReport {
            p50_us: micros(ways, 0.5)?,
            p99_us: micros(ways, 0.99)?,
            max_us: micros(ways, 1.0)?,
            quiet_p50_us: micros(quiet, 0.5)?,
            quiet_p99_us: micros(quiet, 0.99)?,
            quiet_max_us: micros(quiet, 1.0)?,
            broadcast_us: micros(&self.lengths, 0.5)?,
            looked_p99_us: micros(looks, 0.99)?,
            looked_max_us: micros(looks, 1.0)?,
        })
    }

    fn forget(&mut self) {
        self.lengths = Latencies::new();
        (self.talk.ways, self.talk.looks) = (Latencies::new(), Latencies::new());
    }

    fn go_on(&mut self, time: Duration, broadcast: bool, settings: &Settings) -> Result<(), Error> {
        let end = now() + time;
        let mut patience = Patience::new(settings.stall);
        while now() < end {
            if !self.talk.talking && self.pair.clock() - self.talk.asked >= ASK_EVERY {
                self.talk.ask(&mut self.pair)?;
            }
            self.turn(broadcast, &mut patience)?;
        }
        Ok(())
    }

    /// Polls all sockets once, and the two chat sockets after every few messages to the others.
    fn turn(&mut self, broadcast: bool, patience: &mut Patience) -> Result<(), Error> {
        let Self { crowd, exchange, pair, talk, launched, lengths } = self;
        if broadcast && !exchange.is_flying() {
            *launched = crowd.clock();
            exchange.launch(crowd)?;
        }
        let before = (talk.heard, exchange.counts().deliveries);
        talk.look(pair)?;
        let (mut unlooked, mut outcome) = (0, Ok(()));
        crowd.turn(Duration::ZERO, &mut |client, payload, at| {
            let flew = exchange.is_flying();
            exchange.receive(client, payload, at);
            if flew && !exchange.is_flying() {
                lengths.record(at.saturating_sub(*launched));
            }
            unlooked += 1;
            if unlooked == LOOK_AFTER && outcome.is_ok() {
                (unlooked, outcome) = (0, talk.look(pair));
            }
        })?;
        outcome?;
        patience.check((talk.heard, exchange.counts().deliveries) != before, || {
            "two clients chat beside broadcasts; has the server rooms?".into()
        })
    }
}

impl Talk {
    fn new(settings: &Settings) -> Self {
        Self {
            payload: settings.payload,
            filler: settings.filler,
            verifier: Verifier::new(vec![ROOM; 2], 2, false),
            reached: [false; 2],
            talking: false,
            answers: None,
            asked: 0,
            heard: 0,
            looked: 0,
            ways: Latencies::new(),
            looks: Latencies::new(),
        }
    }

    /// Puts both into a room of their own and checks that messages reach them there.
    fn join(&mut self, pair: &mut Swarm, settings: &Settings) -> Result<(), Error> {
        for client in 0..2 {
            pair.say(client, Action::Join(ROOM), |_| ());
            pair.flush(client)?;
        }
        let mut patience = Patience::new(settings.stall);
        let mut again = Duration::ZERO;
        while self.reached != [true; 2] {
            if now() > again {
                self.say(pair, 0, true)?;
                again = now() + PROBE_AGAIN;
            }
            pair.turn(settings.patience(), &mut |client, payload, at| self.hear(client, payload, at))?;
            patience.check(false, || "two clients join a room of their own".into())?;
        }
        Ok(())
    }

    fn ask(&mut self, pair: &mut Swarm) -> Result<(), Error> {
        self.asked = pair.clock();
        self.talking = true;
        self.say(pair, 0, false)
    }

    /// Hears what has come, and answers.
    fn look(&mut self, pair: &mut Swarm) -> Result<(), Error> {
        pair.turn(Duration::ZERO, &mut |client, payload, at| self.hear(client, payload, at))?;
        let at = pair.clock();
        self.looks.record(at - self.looked);
        self.looked = at;
        match self.answers.take() {
            Some(client) => self.say(pair, client, false),
            None => Ok(()),
        }
    }

    fn say(&mut self, pair: &mut Swarm, client: u16, probe: bool) -> Result<(), Error> {
        let sequence = if probe { 0 } else { self.verifier.send(ROOM, client) };
        let stamp = Stamp { probe, group: ROOM, stream: client, slot: 0, sequence, sent_at: pair.clock() };
        let client = usize::from(client);
        pair.say(client, Action::Room(ROOM), |out| stamp.write(out, self.payload, self.filler));
        pair.flush(client)
    }

    fn hear(&mut self, client: usize, payload: &[u8], at: u64) {
        let Some(stamp) = Stamp::read(payload) else { return self.verifier.damaged() };
        if !is_intact(payload, self.payload, self.filler) {
            self.verifier.damaged();
        }
        if stamp.probe {
            self.reached[client] |= stamp.group == ROOM;
            return;
        }
        // The sender's own message comes back too and is ignored.
        if !self.verifier.receive(client, stamp.group, stamp.stream, stamp.sequence)
            || client == usize::from(stamp.stream)
        {
            return;
        }
        self.heard += 1;
        self.count(at.saturating_sub(stamp.sent_at));
        match stamp.stream {
            0 => self.answers = Some(1),
            _ => self.talking = false,
        }
    }

    /// Counts a message's way, and those of the messages that would have been under way beside it.
    ///
    /// Who waits for an answer asks nothing else meanwhile. Were only the messages counted that there were, a server
    /// that keeps everybody waiting for half the time would be seen to do so by one message, and to answer at once by
    /// all of the other half.
    fn count(&mut self, mut way: u64) {
        self.ways.record(way);
        while way > ASK_EVERY {
            way -= ASK_EVERY;
            self.ways.record(way);
        }
    }
}

/// Room of the two chat clients; the others are in the one before.
const ROOM: u16 = 1;
/// Nanoseconds from one question to the next, unless the answer takes longer.
const ASK_EVERY: u64 = 500_000;
/// So many messages of the crowd are read before the two are looked at.
const LOOK_AFTER: u32 = 4;
/// How long a probe may be quiet before another follows.
const PROBE_AGAIN: Duration = Duration::from_millis(200);
