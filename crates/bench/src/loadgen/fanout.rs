use std::time::Duration;

use super::meter::Reading;
use super::stamp::{Action, Stamp, is_intact};
use super::swarm::{Patience, Swarm};
use super::verifier::Verifier;
use super::{MEMBERS_PER_ROOM, Options, Scenario};
use crate::process::now;
use crate::random::Random;
use crate::stats::Histogram;
use crate::{Error, Report};

/// Connects, probes, warms up, measures, and waits until everything has landed
pub(super) fn run(options: &Options, report: &mut Report) -> Result<(), Error> {
    (report.senders, report.outstanding) = (options.senders(), options.outstanding());
    let mut swarm = Swarm::connect(options)?;
    let mut exchange = Exchange::new(options);
    for sender in 0..options.senders() {
        swarm.let_speak(sender)?;
    }
    exchange.probe(&mut swarm, options)?;
    let outcome = exchange.load(&mut swarm, options, report);
    report.faults = exchange.verifier.finish();
    outcome
}

/// Messages on their way, and what arrives of them
struct Exchange {
    scenario: Scenario,
    payload: usize,
    groups: usize,
    members_per_group: usize,
    outstanding: usize,
    verifier: Verifier,
    /// The messages that may be on their way at once; each sender has its own few
    flights: Vec<Flight>,
    /// Flights that have reached everybody
    landed: Vec<u16>,
    /// Number of flights that have not landed
    flying: usize,
    deliveries: u64,
    latencies: Option<Histogram>,
    probes: Probes,
    random: Random,
    to_flush: Vec<usize>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Flight {
    group: u16,
    stream: u16,
    sequence: u32,
    /// Clients that have not got it
    remaining: usize,
}

/// Which clients have got the probe they wait for
#[derive(Default)]
struct Probes {
    /// The number of the probe that all wait for; without it, each waits for the one with its own number
    wanted: Option<u32>,
    seen: Vec<bool>,
    unseen: usize,
}

impl Exchange {
    fn new(options: &Options) -> Self {
        let clients = options.clients();
        let (groups, streams) = match options.scenario {
            Scenario::Echo => (clients, 1),
            Scenario::Rooms => (clients / MEMBERS_PER_ROOM, options.senders()),
            _ => (1, options.senders()),
        };
        let group_of = (0..clients).map(|client| (client % groups) as u16).collect();
        Self {
            scenario: options.scenario,
            payload: options.payload,
            groups,
            members_per_group: clients / groups,
            outstanding: options.outstanding(),
            verifier: Verifier::new(group_of, streams),
            flights: vec![Flight::default(); options.senders() * options.outstanding()],
            landed: Vec::new(),
            flying: 0,
            deliveries: 0,
            latencies: None,
            probes: Probes::default(),
            random: Random::new(1),
            to_flush: Vec::new(),
        }
    }

    /// Joins the rooms, and makes sure that every client is where messages reach it
    ///
    /// A server may let a client in a little later than it says so. A message that is sent meanwhile would count as
    /// lost, and no protocol promises otherwise.
    fn probe(&mut self, swarm: &mut Swarm, options: &Options) -> Result<(), Error> {
        let clients = options.clients();
        if matches!(self.scenario, Scenario::Echo | Scenario::Rooms) {
            self.probes = Probes::new(None, clients);
            for client in 0..clients {
                let group = (client % self.groups) as u16;
                if self.scenario == Scenario::Rooms {
                    swarm.say(client, Action::Join(group), |_| ());
                }
                self.say_probe(swarm, client, group, client as u32)?;
                if client % PROBES_AT_ONCE == 0 {
                    swarm
                        .turn(Duration::ZERO, &mut |client, payload, at| self.receive(client, payload, at))?;
                }
            }
            let unseen = self.await_probes(swarm, options, options.stall)?;
            return if unseen == 0 {
                Ok(())
            } else {
                Err(Error::Stalled(reached(clients - unseen, clients)))
            };
        }
        let mut patience = Patience::new(options.stall);
        let mut fewest_unseen = clients + 1;
        for attempt in 0.. {
            self.probes = Probes::new(Some(attempt), clients);
            self.say_probe(swarm, 0, 0, attempt)?;
            let unseen = self.await_probes(swarm, options, options.stall.min(PROBE_AGAIN))?;
            if unseen == 0 {
                break;
            }
            patience.check(unseen < fewest_unseen, || reached(clients - unseen, clients))?;
            fewest_unseen = fewest_unseen.min(unseen);
        }
        Ok(())
    }

    fn say_probe(&self, swarm: &mut Swarm, client: usize, group: u16, number: u32) -> Result<(), Error> {
        let stamp = Stamp { probe: true, group, stream: 0, slot: 0, sequence: number, sent_at: 0 };
        swarm.say(client, self.action(group), |out| stamp.write(out, self.payload));
        swarm.flush(client)
    }

    /// Waits until every probe is seen, or none came for a while; returns how many are not seen
    fn await_probes(
        &mut self,
        swarm: &mut Swarm,
        options: &Options,
        quiet: Duration,
    ) -> Result<usize, Error> {
        let mut last = now();
        while self.probes.unseen > 0 && now() - last <= quiet {
            let before = self.probes.unseen;
            swarm.turn(options.patience(), &mut |client, payload, at| self.receive(client, payload, at))?;
            if self.probes.unseen < before {
                last = now();
            }
        }
        Ok(self.probes.unseen)
    }

    fn load(&mut self, swarm: &mut Swarm, options: &Options, report: &mut Report) -> Result<(), Error> {
        self.landed = (0..self.flights.len() as u16).collect();
        let mut patience = Patience::new(options.stall);
        let mut window: Option<(Reading, u64)> = None;
        let mut next = now() + options.warmup;
        loop {
            self.launch(swarm)?;
            self.turn(swarm, options, &mut patience)?;
            if now() < next {
                continue;
            }
            let reading = Reading::take(options.pid)?;
            if let Some((start, delivered_before)) = window {
                self.report(&start, &reading, self.deliveries - delivered_before, report)?;
                break;
            }
            window = Some((reading, self.deliveries));
            self.latencies = Some(Histogram::new());
            next = now() + options.window;
        }
        self.latencies = None;
        // Whatever does not land is counted as lost, so a stall here needs no error of its own.
        while self.flying > 0 && self.turn(swarm, options, &mut patience).is_ok() {}
        let end = now() + LISTEN_ON;
        while now() < end {
            swarm.turn(options.patience(), &mut |client, payload, at| self.receive(client, payload, at))?;
        }
        Ok(())
    }

    fn turn(&mut self, swarm: &mut Swarm, options: &Options, patience: &mut Patience) -> Result<(), Error> {
        let before = self.deliveries;
        swarm.turn(options.patience(), &mut |client, payload, at| self.receive(client, payload, at))?;
        patience.check(self.deliveries > before, || {
            format!("{} messages are on their way after {before} deliveries", self.flying)
        })
    }

    /// Sends a new message for each that has landed
    fn launch(&mut self, swarm: &mut Swarm) -> Result<(), Error> {
        for slot in std::mem::take(&mut self.landed) {
            let sender = usize::from(slot) / self.outstanding;
            let (group, stream) = match self.scenario {
                Scenario::Echo => (sender as u16, 0),
                _ => (self.random.below(self.groups) as u16, sender as u16),
            };
            let sequence = self.verifier.send(group, stream);
            self.flights[usize::from(slot)] =
                Flight { group, stream, sequence, remaining: self.members_per_group };
            self.flying += 1;
            let stamp = Stamp { probe: false, group, stream, slot, sequence, sent_at: swarm.clock() };
            swarm.say(sender, self.action(group), |out| stamp.write(out, self.payload));
            self.to_flush.push(sender);
        }
        for sender in self.to_flush.drain(..) {
            swarm.flush(sender)?;
        }
        Ok(())
    }

    fn receive(&mut self, client: usize, payload: &[u8], at: u64) {
        let Some(stamp) = Stamp::read(payload) else { return self.verifier.damaged() };
        if !is_intact(payload, self.payload) {
            self.verifier.damaged();
        }
        if stamp.probe {
            return self.probes.receive(client, stamp.sequence);
        }
        if !self.verifier.receive(client, stamp.group, stamp.stream, stamp.sequence) {
            return;
        }
        self.deliveries += 1;
        if let Some(latencies) = &mut self.latencies {
            latencies.record(at.saturating_sub(stamp.sent_at));
        }
        if let Some(flight) = self.flights.get_mut(usize::from(stamp.slot))
            && (flight.group, flight.stream, flight.sequence) == (stamp.group, stamp.stream, stamp.sequence)
            && flight.remaining > 0
        {
            flight.remaining -= 1;
            if flight.remaining == 0 {
                self.flying -= 1;
                self.landed.push(stamp.slot);
            }
        }
    }

    fn action(&self, group: u16) -> Action {
        match self.scenario {
            Scenario::Echo => Action::Echo,
            Scenario::Rooms => Action::Room(group),
            _ => Action::Broadcast,
        }
    }

    fn report(
        &self,
        start: &Reading,
        end: &Reading,
        deliveries: u64,
        report: &mut Report,
    ) -> Result<(), Error> {
        let spent = start.until(end)?;
        if deliveries == 0 {
            return Err(Error::Stalled("nothing was delivered in the window; a longer one may help".into()));
        }
        spent.report(report);
        report.window_s = spent.wall.as_secs_f64();
        report.deliveries = deliveries;
        report.deliveries_per_s = deliveries as f64 / report.window_s;
        report.cpu_us_per_delivery = spent.server.map(|cpu| cpu.as_secs_f64() * 1e6 / deliveries as f64);
        let percentile = |share| Some(self.latencies.as_ref()?.percentile(share)? as f64 / 1e3);
        (report.p50_us, report.p99_us) = (percentile(0.50), percentile(0.99));
        Ok(())
    }
}

impl Probes {
    fn new(wanted: Option<u32>, clients: usize) -> Self {
        Self { wanted, seen: vec![false; clients], unseen: clients }
    }

    fn receive(&mut self, client: usize, number: u32) {
        if number == self.wanted.unwrap_or(client as u32) && !std::mem::replace(&mut self.seen[client], true)
        {
            self.unseen -= 1;
        }
    }
}

fn reached(seen: usize, clients: usize) -> String {
    format!("a first message has reached {seen} of {clients} clients")
}

const PROBES_AT_ONCE: usize = 64;
/// How long a probe may be quiet before another follows
const PROBE_AGAIN: Duration = Duration::from_millis(200);
/// A doubled message may come after the last that was awaited
const LISTEN_ON: Duration = Duration::from_millis(50);
