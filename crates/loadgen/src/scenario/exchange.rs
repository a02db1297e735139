//! Messages in flight, and their deliveries.

use std::time::Duration;

use super::Scenario;
use super::client_pool::{ClientPool, Patience};
use super::meter::Reading;
use super::probes::Probes;
use super::settings::Settings;
use super::stamp::{Action, Filler, Stamp, is_intact};
use super::verifier::Verifier;
use super::watch::{Sampler, Watch};
use crate::latencies::Latencies;
use crate::process::now;
use crate::{Error, Faults, Report};

/// State of the load: messages in flight and deliveries.
pub(super) struct Exchange {
    pub(super) scenario: Scenario,
    pub(super) payload: usize,
    pub(super) filler: Filler,
    /// Number of clients per group.
    pub(super) groups: Vec<usize>,
    pub(super) without_sender: bool,
    exact: bool,
    outstanding: usize,
    /// Send schedule, if it does not depend on deliveries.
    schedule: Option<Schedule>,
    verifier: Verifier,
    /// Slots of messages in flight; each sender has the same number.
    flights: Vec<Flight>,
    /// Flights that have reached all recipients.
    landed: Vec<u16>,
    /// Number of flights that have not landed.
    flying: usize,
    sent: u64,
    deliveries: u64,
    latencies: Option<Latencies>,
    sampler: Option<Sampler>,
    pub(super) probes: Probes,
    random: fastrand::Rng,
    to_flush: Vec<usize>,
}

/// Messages since the start of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) deliveries: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Flight {
    group: u16,
    stream: u16,
    sequence: u32,
    /// Clients that have not received it.
    remaining: usize,
}

/// Schedule of messages at a fixed rate, from a start time on the swarm's clock.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    begun: u64,
    nanos_each: f64,
}

impl Schedule {
    /// Returns the due time of the message after the first `sent` ones.
    fn after(self, sent: u64) -> u64 {
        self.begun + (self.nanos_each * (sent + 1) as f64) as u64
    }

    /// Returns the number of messages due by then.
    fn due(self, clock: u64) -> u64 {
        (clock.saturating_sub(self.begun) as f64 / self.nanos_each) as u64
    }
}

impl Exchange {
    pub(super) fn new(settings: &Settings) -> Self {
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
            random: fastrand::Rng::with_seed(1),
            to_flush: Vec::new(),
        }
    }

    /// Warms up, measures, and waits until everything has landed.
    pub(super) fn load(
        &mut self,
        client_pool: &mut ClientPool,
        settings: &Settings,
        watch: &mut dyn Watch,
        report: &mut Report,
    ) -> Result<(), Error> {
        self.begin();
        let begun = client_pool.clock();
        self.schedule = settings.rate.map(|rate| Schedule { begun, nanos_each: 1e9 / rate });
        self.sampler = watch.every().map(|every| Sampler::new(every, settings.pid)).transpose()?;
        let mut patience = Patience::new(settings.stall);
        let mut window: Option<(Reading, u64, u64)> = None;
        let mut next = now() + settings.warmup;
        loop {
            self.launch(client_pool)?;
            self.turn(client_pool, settings, &mut patience)?;
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
            self.latencies = Some(Latencies::new());
            next = now() + settings.window;
        }
        self.latencies = None;
        // Missing messages count as lost, so a stall here needs no error.
        while self.flying > 0 && self.turn(client_pool, settings, &mut patience).is_ok() {}
        let end = now() + LISTEN_ON;
        while now() < end {
            client_pool
                .turn(settings.patience(), &mut |client, payload, at| self.receive(client, payload, at))?;
        }
        Ok(())
    }

    /// Makes all slots available for sending.
    pub(super) fn begin(&mut self) {
        // Alternate between senders, so that all of them send at a low rate.
        let of_sender = |slot: usize| (slot % self.outstanding, slot / self.outstanding);
        let mut slots: Vec<usize> = (0..self.flights.len()).collect();
        slots.sort_by_key(|&slot| of_sender(slot));
        self.landed = slots.into_iter().map(|slot| slot as u16).collect();
    }

    /// Starts recording latencies.
    pub(super) fn begin_window(&mut self) -> Counts {
        self.latencies = Some(Latencies::new());
        self.counts()
    }

    /// Stops recording latencies.
    pub(super) fn end_window(&mut self) {
        self.latencies = None;
    }

    pub(super) fn counts(&self) -> Counts {
        Counts { sent: self.sent, deliveries: self.deliveries }
    }

    /// Returns whether a message has not reached all recipients.
    pub(super) fn is_flying(&self) -> bool {
        self.flying > 0
    }

    /// Returns the faults, with all missing messages as lost.
    pub(super) fn faults(&self) -> Faults {
        self.verifier.finish()
    }

    fn turn(
        &mut self,
        client_pool: &mut ClientPool,
        settings: &Settings,
        patience: &mut Patience,
    ) -> Result<(), Error> {
        let before = self.deliveries;
        // Wait until the next message is due, up to the usual timeout.
        let due = self.schedule.map(|schedule| schedule.after(self.sent).saturating_sub(client_pool.clock()));
        let timeout =
            due.map_or_else(|| settings.patience(), |due| settings.patience().min(Duration::from_nanos(due)));
        client_pool.turn(timeout, &mut |client, payload, at| self.receive(client, payload, at))?;
        patience.check(self.deliveries > before || self.flying == 0, || {
            format!("{} messages in flight after {before} deliveries", self.flying)
        })
    }

    /// Sends a new message for each one that has landed; with a rate, only messages that are due.
    pub(super) fn launch(&mut self, client_pool: &mut ClientPool) -> Result<(), Error> {
        let due = self
            .schedule
            .map_or(u64::MAX, |schedule| schedule.due(client_pool.clock()).saturating_sub(self.sent));
        let count = self.landed.len().min(usize::try_from(due).unwrap_or(usize::MAX));
        for index in 0..count {
            let slot = self.landed[index];
            let sender = usize::from(slot) / self.outstanding;
            let (group, stream) = match self.scenario {
                Scenario::Echo => (sender as u16, 0),
                _ => (self.random.usize(..self.groups.len()) as u16, sender as u16),
            };
            let sequence = self.verifier.send(group, stream);
            let is_member = sender % self.groups.len() == usize::from(group);
            let remaining = self.groups[usize::from(group)] - usize::from(self.without_sender && is_member);
            self.flights[usize::from(slot)] = Flight { group, stream, sequence, remaining };
            // The latency of a message delayed by an earlier one counts from its due time.
            let sent_at =
                self.schedule.map_or_else(|| client_pool.clock(), |schedule| schedule.after(self.sent));
            self.flying += 1;
            self.sent += 1;
            let stamp = Stamp { probe: false, group, stream, slot, sequence, sent_at };
            client_pool.say(sender, self.action(group), |out| stamp.write(out, self.payload, self.filler));
            self.to_flush.push(sender);
        }
        self.landed.drain(..count);
        for sender in self.to_flush.drain(..) {
            client_pool.flush(sender)?;
        }
        Ok(())
    }

    pub(super) fn receive(&mut self, client: usize, payload: &[u8], at: u64) {
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

    pub(super) fn action(&self, group: u16) -> Action {
        match self.scenario {
            Scenario::Echo => Action::Echo,
            Scenario::Rooms => Action::Room(group),
            _ => Action::Broadcast,
        }
    }

    pub(super) fn report(
        &self,
        start: &Reading,
        end: &Reading,
        deliveries: u64,
        report: &mut Report,
    ) -> Result<(), Error> {
        let spent = start.until(end, self.exact)?;
        if deliveries == 0 {
            return Err(Error::Stalled("no delivery in the window; try a longer one".into()));
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

/// Time to keep receiving after the last expected message, to detect duplicates.
pub(super) const LISTEN_ON: Duration = Duration::from_millis(50);
