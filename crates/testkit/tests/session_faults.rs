//! The session suite detects injected faults.

use std::collections::VecDeque;
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use roomcast_core::{
    Action, CloseReason, Command, ConnectionRole, Delivery, Message, Namespace, Session, TransportName,
};
use roomcast_testkit::session::cases as suite;

/// Fault of the session under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    HearsBeforeItIsOpen,
    OpensTwice,
    WaitsForEver,
    NeverAsks,
    ActsEarly,
    LetsTimeStandStill,
    SurvivesItsLane,
    DiesWithItsProbe,
    HasReasonsOfItsOwn,
    ClosesTwice,
    WaitsAfterItsEnd,
    BelievesAnybody,
    DecidesTwice,
    CutsText,
    CompetesWithEvents,
    MovesWithoutAProbe,
    TalksToAProbeThatIsGone,
}

#[test]
fn suite_detects_each_fault() {
    type Case = fn(Fault);
    macro_rules! case {
        ($case:ident) => {
            |fault| suite::$case(move || Faulty::new(fault))
        };
    }
    let cases: [(Fault, Case); 17] = [
        (Fault::HearsBeforeItIsOpen, case!(ignores_input_before_open)),
        (Fault::OpensTwice, case!(session_opens_only_once)),
        (Fault::WaitsForEver, case!(closes_silent_client)),
        (Fault::NeverAsks, case!(sends_heartbeats_repeatedly)),
        (Fault::ActsEarly, case!(ignores_early_timeouts)),
        (Fault::LetsTimeStandStill, case!(sets_timeouts_in_the_future)),
        (Fault::SurvivesItsLane, case!(ends_with_its_primary_connection)),
        (Fault::DiesWithItsProbe, case!(survives_loss_of_probe)),
        (Fault::HasReasonsOfItsOwn, case!(keeps_reason_of_application_close)),
        (Fault::ClosesTwice, case!(stays_closed_under_any_input)),
        (Fault::WaitsAfterItsEnd, case!(stays_closed_under_any_input)),
        (Fault::BelievesAnybody, case!(ignores_verdicts_for_unknown_namespaces)),
        (Fault::DecidesTwice, case!(ignores_second_verdict)),
        (Fault::CutsText, case!(keeps_rules_in_random_sequences)),
        (Fault::CompetesWithEvents, case!(keeps_rules_in_random_sequences)),
        (Fault::MovesWithoutAProbe, case!(keeps_rules_in_random_sequences)),
        (Fault::TalksToAProbeThatIsGone, case!(keeps_rules_in_random_sequences)),
    ];
    for (fault, case) in cases {
        case(Fault::None);
        assert!(catch_unwind(|| case(fault)).is_err(), "{fault:?} is not detected");
    }
}

/// Test protocol: welcomes the client with `hello`, sends heartbeats, and upgrades once.
#[derive(Debug)]
struct Faulty {
    fault: Fault,
    actions: VecDeque<Action>,
    phase: Phase,
    polled: bool,
    probe: Probe,
    decided: bool,
    active: Option<Instant>,
    next_ping: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Unopened,
    Open,
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    None,
    Open,
    Answered,
    Done,
}

const INTERVAL: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(25);

impl Faulty {
    fn new(fault: Fault) -> Self {
        Self {
            fault,
            actions: VecDeque::new(),
            phase: Phase::Unopened,
            polled: false,
            probe: Probe::None,
            decided: false,
            active: None,
            next_ping: None,
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn transmit(&mut self, role: ConnectionRole, text: &'static str) {
        let competes = self.has(Fault::CompetesWithEvents);
        let delivery = if competes { Delivery::Reliable } else { Delivery::Protocol };
        self.actions.push_back(Action::Transmit { role, frame: text.into(), delivery });
    }

    fn close(&mut self, reason: CloseReason) {
        if self.phase != Phase::Over || self.has(Fault::ClosesTwice) {
            self.phase = Phase::Over;
            self.actions.push_back(Action::Close(reason));
        }
    }

    fn idle_at(&self) -> Option<Instant> {
        if self.has(Fault::WaitsForEver) { None } else { self.active.map(|at| at + PATIENCE) }
    }
}

impl Session for Faulty {
    fn handle_message(&mut self, role: ConnectionRole, message: Message, _: Instant) {
        if self.phase == Phase::Unopened && self.has(Fault::HearsBeforeItIsOpen) {
            self.transmit(ConnectionRole::Primary, "heard");
        }
        if self.phase != Phase::Open {
            return;
        }
        let Message::Text(text) = message else { return };
        if self.has(Fault::CutsText) && text.len() > 1 {
            let _ = &text[1..];
        }
        match (role, &*text, self.probe) {
            (ConnectionRole::Probe, "2probe", Probe::Open | Probe::Answered) => {
                self.probe = Probe::Answered;
                self.transmit(ConnectionRole::Probe, "3probe");
            }
            (ConnectionRole::Probe, "2probe", _) if self.has(Fault::TalksToAProbeThatIsGone) => {
                self.transmit(ConnectionRole::Probe, "3probe");
            }
            (ConnectionRole::Probe, "5", Probe::Answered) => {
                self.probe = Probe::Done;
                self.actions.push_back(Action::Promote);
            }
            (ConnectionRole::Probe, "5", Probe::None) if self.has(Fault::MovesWithoutAProbe) => {
                self.actions.push_back(Action::Promote);
            }
            _ => {}
        }
    }

    fn handle_connection_opened(&mut self, role: ConnectionRole, transport: TransportName, now: Instant) {
        match (role, self.phase) {
            (ConnectionRole::Primary, Phase::Open) if self.has(Fault::OpensTwice) => {
                self.transmit(ConnectionRole::Primary, "hello");
            }
            (ConnectionRole::Primary, Phase::Unopened) => {
                self.phase = Phase::Open;
                self.polled = transport.0 == "polling";
                self.active = Some(now);
                self.next_ping = Some(now + INTERVAL);
                self.transmit(ConnectionRole::Primary, "hello");
                self.actions.push_back(Action::Connect { namespace: Namespace::main(), auth: "".into() });
            }
            (ConnectionRole::Probe, Phase::Open) if self.can_upgrade() => self.probe = Probe::Open,
            _ => {}
        }
    }

    fn handle_connection_closed(&mut self, role: ConnectionRole, reason: CloseReason, _: Instant) {
        match role {
            ConnectionRole::Primary if self.has(Fault::SurvivesItsLane) => {}
            ConnectionRole::Probe if !self.has(Fault::DiesWithItsProbe) => {
                if self.probe != Probe::Done {
                    self.probe = Probe::None;
                }
            }
            _ => self.close(reason),
        }
    }

    fn handle_activity(&mut self, role: ConnectionRole, now: Instant) {
        if role == ConnectionRole::Primary {
            self.active = Some(now);
        }
    }

    fn handle_command(&mut self, command: Command, _: Instant) {
        let undecided = self.phase == Phase::Open && (!self.decided || self.has(Fault::DecidesTwice));
        let known = |namespace: &Namespace| namespace.is_main() || self.has(Fault::BelievesAnybody);
        match command {
            Command::Accept { namespace, .. } if undecided && known(&namespace) => {
                self.decided = true;
                self.transmit(ConnectionRole::Primary, "welcome");
            }
            Command::Refuse { namespace, .. } if undecided && known(&namespace) => {
                self.close(CloseReason::ForcedClose);
            }
            Command::Close(_) if self.has(Fault::HasReasonsOfItsOwn) => self.close(CloseReason::Overloaded),
            Command::Close(reason) => self.close(reason),
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.phase != Phase::Open {
            return;
        }
        if self.idle_at().is_some_and(|at| at <= now) {
            self.close(CloseReason::IdleTimeout);
        } else if self.has(Fault::ActsEarly) || self.next_ping.is_some_and(|at| at <= now) {
            self.actions.push_back(Action::Ping(ConnectionRole::Primary));
            if !self.has(Fault::LetsTimeStandStill) {
                self.next_ping = Some(now + INTERVAL);
            }
        }
        if self.has(Fault::NeverAsks) {
            self.actions.retain(|action| !matches!(action, Action::Ping(_)));
        }
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let waits =
            self.phase == Phase::Open || self.phase == Phase::Over && self.has(Fault::WaitsAfterItsEnd);
        [self.idle_at(), self.next_ping].into_iter().flatten().min().filter(|_| waits)
    }

    fn can_upgrade(&self) -> bool {
        self.phase == Phase::Open && self.polled && self.probe == Probe::None
    }
}
