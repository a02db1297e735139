use std::time::Duration;

use super::Scenario;
use super::meter::Reading;
use super::settings::Settings;
use super::stamp::{Action, Filler, Stamp, is_intact};
use super::swarm::{Patience, Swarm};
use super::verifier::Verifier;
use super::watch::{Sampler, Watch};
use crate::process::now;
use crate::random::Random;
use crate::stats::Histogram;
use crate::{Error, Report};

/// Connects, probes, warms up, measures, and waits until everything has landed
pub(super) fn run(settings: &Settings, watch: &mut dyn Watch, report: &mut Report) -> Result<(), Error> {
    (report.senders, report.outstanding) = (settings.senders, settings.outstanding);
    let mut swarm = Swarm::connect(settings, watch)?;
    let mut exchange = Exchange::new(settings);
    for speaker in 0..settings.speakers() {
        swarm.let_speak(speaker)?;
    }
    let outcome = exchange
        .probe(&mut swarm, settings)
        .and_then(|()| exchange.load(&mut swarm, settings, watch, report));
    report.faults = exchange.verifier.finish();
    report.others = swarm.others();
    if settings.gentle {
        swarm.say_goodbye();
    }
    outcome
}

/// Messages on their way, and what arrives of them
struct Exchange {
    scenario: Scenario,
    payload: usize,
    filler: Filler,
    /// How many clients stand in each group
    groups: Vec<usize>,
    without_sender: bool,
    exact: bool,
    outstanding: usize,
    /// What is to be sent when, if that does not depend on what arrives
    schedule: Option<Schedule>,
    verifier: Verifier,
    /// The messages that may be on their way at once; each sender has its own few
    flights: Vec<Flight>,
    /// Flights that have reached everybody
    landed: Vec<u16>,
    /// Number of flights that have not landed
    flying: usize,
    sent: u64,
    deliveries: u64,
    latencies: Option<Histogram>,
    sampler: Option<Sampler>,
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

/// Messages at a rate, since a moment on the swarm's clock
#[derive(Debug, Clone, Copy)]
struct Schedule {
    begun: u64,
    nanos_each: f64,
}

impl Schedule {
    /// When the message after so many is to be sent
    fn after(self, sent: u64) -> u64 {
        self.begun + (self.nanos_each * (sent + 1) as f64) as u64
    }

    /// How many are to be sent until then
    fn due(self, clock: u64) -> u64 {
        (clock.saturating_sub(self.begun) as f64 / self.nanos_each) as u64
    }
}

/// Which clients have got the probe they wait for
#[derive(Default)]
struct Probes {
    /// The number of the probe that all wait for; without it, each waits for the one with the number of its group
    wanted: Option<u32>,
    groups: usize,
    seen: Vec<bool>,
    unseen: usize,
    #[cfg(test)]
    heard: usize,
}

impl Exchange {
    fn new(settings: &Settings) -> Self {
        let Settings { clients, senders, outstanding, .. } = *settings;
        let (count, streams) = match settings.scenario {
            Scenario::Echo => (clients, 1),
            Scenario::Rooms => (settings.groups, senders),
            _ => (1, senders),
        };
        let group_of: Vec<u16> = (0..clients).map(|client| (client % count) as u16).collect();
        let mut groups = vec![0; count];
        group_of.iter().for_each(|&group| groups[usize::from(group)] += 1);
        Self {
            scenario: settings.scenario,
            payload: settings.payload,
            filler: settings.filler,
            groups,
            without_sender: settings.without_sender,
            exact: settings.exact,
            outstanding,
            schedule: None,
            verifier: Verifier::new(group_of, streams, settings.without_sender),
            flights: vec![Flight::default(); senders * outstanding],
            landed: Vec::new(),
            flying: 0,
            sent: 0,
            deliveries: 0,
            latencies: None,
            sampler: None,
            probes: Probes::default(),
            random: Random::new(1),
            to_flush: Vec::new(),
        }
    }

    /// Joins the rooms, and makes sure that every client is where messages reach it
    ///
    /// A server may let a client in a little later than it says so. A message that is sent meanwhile would count as
    /// lost, and no protocol promises otherwise.
    fn probe(&mut self, swarm: &mut Swarm, settings: &Settings) -> Result<(), Error> {
        let clients = settings.clients;
        self.probes = Probes::new(None, self.groups.len(), clients);
        if self.scenario == Scenario::Rooms {
            return self.probe_rooms(swarm, settings);
        }
        if self.scenario == Scenario::Echo {
            for client in 0..clients {
                self.say_probe(swarm, client, client as u16, client as u32)?;
                if client % PROBES_AT_ONCE == 0 {
                    swarm
                        .turn(Duration::ZERO, &mut |client, payload, at| self.receive(client, payload, at))?;
                }
            }
            let unseen = self.await_probes(swarm, settings, settings.stall, 0)?;
            return if unseen == 0 {
                Ok(())
            } else {
                Err(Error::Stalled(reached(clients - unseen, clients)))
            };
        }
        let mut patience = Patience::new(settings.stall);
        let mut fewest_unseen = clients + 1;
        for attempt in 0.. {
            self.probes = Probes::new(Some(attempt), 1, clients);
            if self.without_sender {
                self.probes.receive(0, attempt);
            }
            self.say_probe(swarm, 0, 0, attempt)?;
            let unseen = self.await_probes(swarm, settings, settings.stall.min(PROBE_AGAIN), 0)?;
            if unseen == 0 {
                break;
            }
            patience.check(unseen < fewest_unseen, || reached(clients - unseen, clients))?;
            fewest_unseen = fewest_unseen.min(unseen);
        }
        Ok(())
    }

    /// Joins the rooms, and lets the first member of each say something until all of them have heard it
    ///
    /// So a client hears one probe, however large its room is. Were each member to send one, a room of thousands would
    /// get millions of messages before the load begins.
    fn probe_rooms(&mut self, swarm: &mut Swarm, settings: &Settings) -> Result<(), Error> {
        let (clients, rooms) = (settings.clients, self.groups.len());
        for client in 0..clients {
            swarm.say(client, Action::Join((client % rooms) as u16), |_| ());
            swarm.flush(client)?;
            if client % PROBES_AT_ONCE == 0 {
                swarm.turn(Duration::ZERO, &mut |client, payload, at| self.receive(client, payload, at))?;
            }
        }
        if self.without_sender {
            return self.wait_blindly(swarm, settings);
        }
        let quiet = settings.stall.min(PROBE_AGAIN);
        let mut patience = Patience::new(settings.stall);
        while self.probes.unseen > 0 {
            let mut missing = vec![0; rooms];
            (0..clients).filter(|&client| !self.probes.seen[client]).for_each(|it| missing[it % rooms] += 1);
            let mut left = self.probes.unseen;
            let (mut before, mut under_way) = (left, 0);
            for room in (0..rooms).filter(|&room| missing[room] > 0) {
                self.say_probe(swarm, room, room as u16, room as u32)?;
                left -= missing[room];
                under_way += self.groups[room];
                if under_way >= PROBED_AT_ONCE || left == 0 {
                    let unseen = self.await_probes(swarm, settings, quiet, left)?;
                    patience.check(unseen < before, || reached(clients - unseen, clients))?;
                    (before, under_way) = (unseen, 0);
                }
            }
        }
        Ok(())
    }

    /// Gives the server a while for the joins, where no probe comes back
    fn wait_blindly(&mut self, swarm: &mut Swarm, settings: &Settings) -> Result<(), Error> {
        let end = now() + JOINING;
        while now() < end {
            swarm.turn(settings.patience(), &mut |client, payload, at| self.receive(client, payload, at))?;
        }
        Ok(())
    }

    fn say_probe(&self, swarm: &mut Swarm, client: usize, group: u16, number: u32) -> Result<(), Error> {
        let stamp = Stamp { probe: true, group, stream: 0, slot: 0, sequence: number, sent_at: 0 };
        swarm.say(client, self.action(group), |out| stamp.write(out, self.payload, self.filler));
        swarm.flush(client)
    }

    /// Waits until all but `left` probes are seen, or none came for a while; returns how many are not seen
    fn await_probes(
        &mut self,
        swarm: &mut Swarm,
        settings: &Settings,
        quiet: Duration,
        left: usize,
    ) -> Result<usize, Error> {
        let mut last = now();
        while self.probes.unseen > left && now() - last <= quiet {
            let before = self.probes.unseen;
            swarm.turn(settings.patience(), &mut |client, payload, at| self.receive(client, payload, at))?;
            if self.probes.unseen < before {
                last = now();
            }
        }
        Ok(self.probes.unseen)
    }

    fn load(
        &mut self,
        swarm: &mut Swarm,
        settings: &Settings,
        watch: &mut dyn Watch,
        report: &mut Report,
    ) -> Result<(), Error> {
        // By turns, so that at a low rate all senders have their share.
        let of_sender = |slot: usize| (slot % self.outstanding, slot / self.outstanding);
        let mut slots: Vec<usize> = (0..self.flights.len()).collect();
        slots.sort_by_key(|&slot| of_sender(slot));
        self.landed = slots.into_iter().map(|slot| slot as u16).collect();
        let begun = swarm.clock();
        self.schedule = settings.rate.map(|rate| Schedule { begun, nanos_each: 1e9 / rate });
        self.sampler = watch.every().map(|every| Sampler::new(every, settings.pid)).transpose()?;
        let mut patience = Patience::new(settings.stall);
        let mut window: Option<(Reading, u64, u64)> = None;
        let mut next = now() + settings.warmup;
        loop {
            self.launch(swarm)?;
            self.turn(swarm, settings, &mut patience)?;
            if let Some(sampler) = &mut self.sampler
                && let Some(sample) = sampler.take(self.deliveries, self.flying, window.is_some())?
            {
                watch.sample(&sample);
            }
            if now() < next && !watch.stopped() {
                continue;
            }
            let reading = Reading::take(settings.pid)?;
            if let Some((start, delivered_before, sent_before)) = window {
                report.sent = self.sent - sent_before;
                self.report(&start, &reading, self.deliveries - delivered_before, report)?;
                break;
            }
            if watch.stopped() {
                return Err(Error::Usage("stopped before anything was measured".into()));
            }
            window = Some((reading, self.deliveries, self.sent));
            self.latencies = Some(Histogram::new());
            next = now() + settings.window;
        }
        self.latencies = None;
        // Whatever does not land is counted as lost, so a stall here needs no error of its own.
        while self.flying > 0 && self.turn(swarm, settings, &mut patience).is_ok() {}
        let end = now() + LISTEN_ON;
        while now() < end {
            swarm.turn(settings.patience(), &mut |client, payload, at| self.receive(client, payload, at))?;
        }
        Ok(())
    }

    fn turn(&mut self, swarm: &mut Swarm, settings: &Settings, patience: &mut Patience) -> Result<(), Error> {
        let before = self.deliveries;
        // Until the next message is due, but not for long.
        let due = self.schedule.map(|schedule| schedule.after(self.sent).saturating_sub(swarm.clock()));
        let timeout =
            due.map_or_else(|| settings.patience(), |due| settings.patience().min(Duration::from_nanos(due)));
        swarm.turn(timeout, &mut |client, payload, at| self.receive(client, payload, at))?;
        patience.check(self.deliveries > before || self.flying == 0, || {
            format!("{} messages are on their way after {before} deliveries", self.flying)
        })
    }

    /// Sends a new message for each that has landed, or those that are due
    fn launch(&mut self, swarm: &mut Swarm) -> Result<(), Error> {
        let due =
            self.schedule.map_or(u64::MAX, |schedule| schedule.due(swarm.clock()).saturating_sub(self.sent));
        let count = self.landed.len().min(usize::try_from(due).unwrap_or(usize::MAX));
        for index in 0..count {
            let slot = self.landed[index];
            let sender = usize::from(slot) / self.outstanding;
            let (group, stream) = match self.scenario {
                Scenario::Echo => (sender as u16, 0),
                _ => (self.random.below(self.groups.len()) as u16, sender as u16),
            };
            let sequence = self.verifier.send(group, stream);
            let is_member = sender % self.groups.len() == usize::from(group);
            let remaining = self.groups[usize::from(group)] - usize::from(self.without_sender && is_member);
            self.flights[usize::from(slot)] = Flight { group, stream, sequence, remaining };
            // What had to wait for a former message to land is late from when it was due.
            let sent_at = self.schedule.map_or_else(|| swarm.clock(), |schedule| schedule.after(self.sent));
            self.flying += 1;
            self.sent += 1;
            let stamp = Stamp { probe: false, group, stream, slot, sequence, sent_at };
            swarm.say(sender, self.action(group), |out| stamp.write(out, self.payload, self.filler));
            self.to_flush.push(sender);
        }
        self.landed.drain(..count);
        for sender in self.to_flush.drain(..) {
            swarm.flush(sender)?;
        }
        Ok(())
    }

    fn receive(&mut self, client: usize, payload: &[u8], at: u64) {
        let Some(stamp) = Stamp::read(payload) else { return self.verifier.damaged() };
        if !is_intact(payload, self.payload, self.filler) {
            self.verifier.damaged();
        }
        if stamp.probe {
            return self.probes.receive(client, stamp.sequence);
        }
        if !self.verifier.receive(client, stamp.group, stamp.stream, stamp.sequence) {
            return;
        }
        self.deliveries += 1;
        let latency = at.saturating_sub(stamp.sent_at);
        if let Some(latencies) = &mut self.latencies {
            latencies.record(latency);
        }
        if let Some(sampler) = &mut self.sampler {
            sampler.record(latency);
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
        let spent = start.until(end, self.exact)?;
        if deliveries == 0 {
            return Err(Error::Stalled("nothing was delivered in the window; a longer one may help".into()));
        }
        spent.report(report);
        report.window_s = spent.wall.as_secs_f64();
        report.deliveries = deliveries;
        report.deliveries_per_s = deliveries as f64 / report.window_s;
        report.cpu_us_per_delivery = spent.server.map(|cpu| cpu.as_secs_f64() * 1e6 / deliveries as f64);
        let percentile = |share| Some(self.latencies.as_ref()?.percentile(share)? as f64 / 1e3);
        (report.p50_us, report.p90_us) = (percentile(0.50), percentile(0.90));
        (report.p99_us, report.p999_us) = (percentile(0.99), percentile(0.999));
        Ok(())
    }
}

impl Probes {
    fn new(wanted: Option<u32>, groups: usize, clients: usize) -> Self {
        Self {
            wanted,
            groups,
            seen: vec![false; clients],
            unseen: clients,
            #[cfg(test)]
            heard: 0,
        }
    }

    fn receive(&mut self, client: usize, number: u32) {
        #[cfg(test)]
        {
            self.heard += 1;
        }
        let wanted = self.wanted.unwrap_or((client % self.groups) as u32);
        if number == wanted && !std::mem::replace(&mut self.seen[client], true) {
            self.unseen -= 1;
        }
    }
}

fn reached(seen: usize, clients: usize) -> String {
    format!("a first message has reached {seen} of {clients} clients")
}

/// How long joining may take if nothing shows that it is done
const JOINING: Duration = Duration::from_secs(1);
const PROBES_AT_ONCE: usize = 64;
/// Clients of rooms that hear a probe at a time, unless a single room has more
const PROBED_AT_ONCE: usize = 256;
/// How long a probe may be quiet before another follows
const PROBE_AGAIN: Duration = Duration::from_millis(200);
/// A doubled message may come after the last that was awaited
const LISTEN_ON: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::Options;
    use super::super::watch::Unwatched;
    use super::*;
    use crate::limit::tests::Running;
    use crate::limit::{Pattern, Send};

    /// How many probes came to the clients before the load
    fn probes_heard(clients: usize, rooms: usize) -> usize {
        let server = Running::new(Send::Write, Pattern::Room);
        let port = server.address.port();
        let line = format!("loadgen --port {port} --scenario rooms --clients {clients}");
        let mut settings = Options::parse_from(line.split(' ')).settings();
        settings.groups = rooms;
        let mut swarm = Swarm::connect(&settings, &mut Unwatched).unwrap();
        let mut exchange = Exchange::new(&settings);
        exchange.probe(&mut swarm, &settings).unwrap();
        assert_eq!(exchange.probes.unseen, 0);
        exchange.probes.heard
    }

    #[test]
    fn a_room_is_probed_once_however_many_are_in_it() {
        for (clients, rooms) in [(600, 1), (600, 600), (600, 7)] {
            let heard = probes_heard(clients, rooms);
            // Again where a client was not in yet, which on a busy machine may be more than once.
            assert!((clients..20 * clients).contains(&heard), "{heard} by {clients} in {rooms} rooms");
        }
    }
}
