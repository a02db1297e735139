//! Latency of a chat between two clients during broadcasts to a crowd of other clients.
//!
//! One thread reads both, since a second thread on its dedicated CPU would wait for the first. The chat has a separate
//! epoll instance, polled after every few messages of the crowd, so a chat message waits only microseconds in the
//! generator; the delay is [reported](ChatReport::looked_p99_us). The generator busy-polls in this scenario.

use std::time::Duration;

use super::client_pool::{ClientPool, Patience};
use super::exchange::{Exchange, LISTEN_ON};
use super::meter::Reading;
use super::probing::probe;
use super::settings::Settings;
use super::stamp::{Action, Filler, Stamp, is_intact};
use super::verifier::Verifier;
use super::{Scenario, Watch};
use crate::latencies::Latencies;
use crate::process::now;
use crate::report::ChatReport;
use crate::{Error, Failure, Report};

/// Measures the chat alone, and then during successive broadcasts.
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
    report.failure = Some(Failure::Load);
    let outcome = both.measure(&crowd, report);
    report.faults = both.exchange.faults();
    report.faults += both.talk.verifier.finish();
    outcome
}

struct Both {
    crowd: ClientPool,
    exchange: Exchange,
    pair: ClientPool,
    talk: Talk,
    /// Send time of the current broadcast.
    launched: u64,
    /// Durations of the broadcasts in the window, from sending to the last receipt.
    lengths: Latencies,
}

/// Two clients that answer each other.
struct Talk {
    payload: usize,
    filler: Filler,
    verifier: Verifier,
    /// Clients that received a probe.
    reached: [bool; 2],
    /// Whether a question or its answer is in flight.
    talking: bool,
    /// Client that must answer the last message.
    answers: Option<u16>,
    asked: u64,
    heard: u64,
    looked: u64,
    ways: Latencies,
    looks: Latencies,
}

impl Both {
    fn connect(settings: &Settings, watch: &mut dyn Watch) -> Result<Self, Error> {
        let mut crowd = ClientPool::connect(settings, watch)?;
        let mut exchange = Exchange::new(settings);
        probe(&mut exchange, &mut crowd, settings)?;
        exchange.begin();
        let two = Settings { clients: 2, ..settings.clone() };
        let mut pair = ClientPool::connect(&two, watch)?;
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
        let (start, before) = (Reading::take(settings.pid)?, self.exchange.begin_window(self.crowd.clock()));
        self.go_on(settings.window, true, settings)?;
        let end = Reading::take(settings.pid)?;
        report.sent = self.exchange.counts().sent - before.sent;
        self.exchange.end_window(self.crowd.clock(), report);
        self.exchange.report(&start, &end, self.exchange.counts().deliveries - before.deliveries, report)?;
        report.chat = self.report(&quiet);
        if report.chat.is_none() {
            return Err(Error::Stalled("no broadcast or no chat message completed in the window".into()));
        }
        // Missing messages count as lost, so a stall here needs no error.
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
            "chatting during broadcasts; does the server support rooms?".into()
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

    /// Joins both clients to the chat room and probes that messages reach them.
    fn join(&mut self, pair: &mut ClientPool, settings: &Settings) -> Result<(), Error> {
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
            patience.check(false, || "joining the chat room".into())?;
        }
        Ok(())
    }

    fn ask(&mut self, pair: &mut ClientPool) -> Result<(), Error> {
        self.asked = pair.clock();
        self.talking = true;
        self.say(pair, 0, false)
    }

    /// Receives pending chat messages and answers them.
    fn look(&mut self, pair: &mut ClientPool) -> Result<(), Error> {
        pair.turn(Duration::ZERO, &mut |client, payload, at| self.hear(client, payload, at))?;
        let at = pair.clock();
        self.looks.record(at - self.looked);
        self.looked = at;
        match self.answers.take() {
            Some(client) => self.say(pair, client, false),
            None => Ok(()),
        }
    }

    fn say(&mut self, pair: &mut ClientPool, client: u16, probe: bool) -> Result<(), Error> {
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
        // The sender receives its own message too; ignore it.
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

    /// Records a latency, and the latencies of messages that would have been sent while it was pending.
    ///
    /// This corrects for coordinated omission: a client that waits for an answer sends no more questions, so a server
    /// that stalls half of the time would otherwise show it in a single message.
    fn count(&mut self, mut way: u64) {
        self.ways.record(way);
        while way > ASK_EVERY {
            way -= ASK_EVERY;
            self.ways.record(way);
        }
    }
}

/// Room of the two chat clients; the crowd is in room 0.
const ROOM: u16 = 1;
/// Minimum time between two questions, in nanoseconds.
const ASK_EVERY: u64 = 500_000;
/// Number of the crowd's messages read between two polls of the chat.
const LOOK_AFTER: u32 = 4;
/// Time to wait for a probe before it is repeated.
const PROBE_AGAIN: Duration = Duration::from_millis(200);
