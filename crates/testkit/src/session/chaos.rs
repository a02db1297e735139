//! Random sequences of driver, client and application operations.

use std::time::Duration;

use bytes::Bytes;
use roomcast_core::{Action, CloseReason, Command, ConnectionRole, Message, Namespace, Session};

use super::samples::{LONG, POLLING, TEXTS, WEBSOCKET};
use crate::Pair;
use crate::rng::SeededRng;

/// Number of sequences, and their maximum length.
const SEQUENCES: u64 = 5_000;
const STEPS: u64 = 60;

/// No sequence makes a session panic, act after its end, set a past deadline, or live forever.
pub fn keeps_rules_in_random_sequences<S: Session>(make: impl Fn() -> S) {
    let (mut ended, mut moved) = (0, 0);
    for seed in 0..SEQUENCES {
        let mut chaos = Chaos::new(make(), seed);
        chaos.run();
        ended += u64::from(chaos.pair.closed().is_some());
        moved += chaos.promoted;
    }
    // Otherwise the sequences would cover little.
    assert!(ended > SEQUENCES / 2, "{ended} sessions ended");
    let mut pair = Pair::new(make());
    pair.open(POLLING);
    assert!(moved > 0 || !pair.session.can_upgrade(), "no session was upgraded");
}

struct Chaos<S> {
    pair: Pair<S>,
    rng: SeededRng,
    trace: Trace,
    /// Namespaces requested by the client.
    asked: Vec<Namespace>,
    promoted: u64,
}

impl<S: Session> Chaos<S> {
    fn new(session: S, seed: u64) -> Self {
        let mut rng = SeededRng::new(seed);
        let pair = if rng.below(2) == 0 { Pair::new(session) } else { Pair::new(session).accepting() };
        let trace = Trace { seed, steps: Vec::new() };
        Self { pair, rng, trace, asked: Vec::new(), promoted: 0 }
    }

    fn run(&mut self) {
        let opened = self.rng.below(10) > 0;
        if opened {
            self.pair.client.answers("2", "3");
            let transport = self.rng.of(&[POLLING, POLLING, WEBSOCKET]);
            self.step(format!("open {transport}"), |pair| pair.open(transport));
        }
        for _ in 0..self.rng.below(STEPS) {
            self.any();
        }
        if opened {
            self.pair.client.stops_answering();
            self.step("the client is gone".into(), |pair| pair.advance(LONG));
            assert!(self.pair.closed().is_some(), "a session without a client ends");
        }
    }

    /// Performs a random operation, weighted to keep sessions alive so that sequences go deep.
    fn any(&mut self) {
        let lane = self.rng.of(&[
            ConnectionRole::Primary,
            ConnectionRole::Primary,
            ConnectionRole::Primary,
            ConnectionRole::Probe,
        ]);
        let transport = self.rng.of(&[POLLING, WEBSOCKET, WEBSOCKET]);
        match self.rng.below(32) {
            0..14 => {
                let message = self.message();
                self.step(format!("{lane:?} {message:?}"), |pair| pair.receive_on(lane, message));
            }
            14..17 => self.upgrade(),
            17 => self.step(format!("open {transport}"), |pair| pair.open(transport)),
            18 => self.step(format!("probe by {transport}"), |pair| pair.open_probe(transport)),
            19 => {
                let lost =
                    if self.rng.below(6) == 0 { ConnectionRole::Primary } else { ConnectionRole::Probe };
                self.step(format!("lose {lost:?}"), |pair| pair.lose(lost, CloseReason::TransportError));
            }
            20..24 => {
                let by = Duration::from_millis(self.rng.below(30_000) as u64);
                self.step(format!("advance {by:?}"), |pair| pair.advance(by));
            }
            24 => {
                let by = Duration::from_millis(self.rng.below(60_000) as u64);
                self.step(format!("stall {by:?}"), |pair| pair.stall(by));
            }
            25 => self.step("early timeout".into(), early_timeout),
            26..29 => {
                let namespace = self.namespace();
                self.step(format!("accept {namespace}"), |pair| pair.accept(namespace));
            }
            29 => {
                let namespace = self.namespace();
                self.step(format!("refuse {namespace}"), |pair| pair.refuse(namespace));
            }
            30 => {
                let namespace = self.namespace();
                let command = Command::Disconnect { namespace };
                self.step(format!("{command:?}"), |pair| pair.command(command));
            }
            _ => {
                let reason = self.rng.of(&[CloseReason::ForcedServerClose, CloseReason::ServerShutdown]);
                if self.rng.below(4) == 0 {
                    self.step(format!("close: {reason}"), |pair| pair.command(Command::Close(reason)));
                }
            }
        }
    }

    /// Performs a client's transport upgrade, if allowed, up to a random step.
    fn upgrade(&mut self) {
        if !self.pair.session.can_upgrade() {
            return;
        }
        let stages = self.rng.below(4);
        self.step(format!("upgrade, {stages} stages"), |pair| {
            pair.open_probe(WEBSOCKET);
            for message in ["2probe", "5", "3"].into_iter().take(stages) {
                pair.receive_on(ConnectionRole::Probe, message);
            }
        });
    }

    fn message(&mut self) -> Message {
        match self.rng.below(8) {
            0 => {
                let bytes: Vec<u8> = (0..self.rng.below(4)).map(|_| self.rng.below(256) as u8).collect();
                Bytes::from(bytes).into()
            }
            1 => {
                let letters: Vec<char> = "0123456{}[]\",:-/é😀\\ ".chars().collect();
                let text: String = (0..self.rng.below(12)).map(|_| self.rng.of(&letters)).collect();
                text.into()
            }
            // The last ten violate at least one protocol.
            2 => self.rng.of(&TEXTS).into(),
            _ => self.rng.of(&TEXTS[..TEXTS.len() - 10]).into(),
        }
    }

    fn namespace(&mut self) -> Namespace {
        let known = ["/", "/chat", "/nobody-asked"];
        if self.asked.is_empty() || self.rng.below(4) == 0 {
            return Namespace::new(self.rng.of(&known));
        }
        self.asked[self.rng.below(self.asked.len() as u64)].clone()
    }

    fn step(&mut self, what: String, act: impl FnOnce(&mut Pair<S>)) {
        self.trace.steps.push(what);
        let pair = &mut self.pair;
        let was_over = pair.closed().is_some();
        act(pair);
        assert!(pair.session.poll_action().is_none());
        let actions = pair.actions();
        assert!(!was_over || actions.is_empty(), "{actions:?} after the close");
        for action in actions {
            match action {
                Action::Connect { namespace, .. } => self.asked.push(namespace),
                Action::Promote => self.promoted += 1,
                _ => {}
            }
        }
        if pair.closed().is_some() {
            assert_eq!(pair.session.poll_timeout(), None, "timeout pending after the close");
            assert!(!pair.session.can_upgrade());
        }
    }
}

fn early_timeout<S: Session>(pair: &mut Pair<S>) {
    pair.drive();
    let at = pair.session.poll_timeout();
    pair.session.handle_timeout(pair.now());
    assert_eq!(pair.session.poll_timeout(), at);
    let action = pair.session.poll_action();
    assert!(action.is_none(), "early action {action:?}");
}

/// Prints the sequence on failure.
struct Trace {
    seed: u64,
    steps: Vec<String>,
}

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("sequence {}:\n  {}", self.seed, self.steps.join("\n  "));
        }
    }
}
