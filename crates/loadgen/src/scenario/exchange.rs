//! Messages in flight, and their deliveries.

use std::time::Duration;

use super::client_pool::{ClientPool, Patience};
use super::meter::Reading;
use super::open_loop::OpenLoop;
use super::probes::Probes;
use super::settings::Settings;
use super::stamp::{Action, Filler, Stamp, is_intact};
use super::verifier::Verifier;
use super::watch::{Sampler, Watch};
use super::{Habit, Scenario};
use crate::error::ErrorContext as _;
use crate::latencies::Latencies;
use crate::process::{now, wake_on_time};
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
    /// Schedule and free slots, if sending does not depend on deliveries.
    open_loop: Option<OpenLoop>,
    verifier: Verifier,
    /// Slots of messages in flight; each sender has the same number.
    flights: Vec<Flight>,
    /// Flights that have reached all recipients, in a closed loop.
    landed: Vec<u16>,
    /// Number of flights that have not landed.
    flying: usize,
    sent: u64,
    deliveries: u64,
    latencies: Option<Latencies>,
    /// Nanoseconds without anything to send or to receive, when busy-polling in an open loop.
    idle: u64,
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
            open_loop: None,
            verifier: Verifier::new(group_of, streams, settings.without_sender),
            flights: vec![Flight::default(); senders * outstanding],
            landed: Vec::new(),
            flying: 0,
            sent: 0,
            deliveries: 0,
            latencies: None,
            idle: 0,
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
        if let Some(rate) = settings.rate {
            wake_on_time().doing(|| "set the precision of timers".into())?;
            let begun = client_pool.clock();
            self.open_loop = Some(OpenLoop::new(settings, rate, begun));
        }
        self.sampler = watch.every().map(|every| Sampler::new(every, settings.pid)).transpose()?;
        let mut patience = Patience::new(settings.stall);
        let mut window: Option<(Reading, Counts)> = None;
        let mut next = now() + settings.warmup;
        loop {
            let (begun, sent_before) = (client_pool.clock(), self.sent);
            self.launch(client_pool)?;
            let received = self.turn(client_pool, settings, &mut patience)?;
            if settings.spin && self.open_loop.is_some() && !received && self.sent == sent_before {
                self.idle += client_pool.clock() - begun;
            }
            if let Some(sampler) = &mut self.sampler
                && let Some(sample) = sampler.take(self.deliveries, self.flying, window.is_some())?
            {
                watch.sample(&sample);
            }
            if now() < next && !watch.stopped() {
                continue;
            }
            let reading = Reading::take(settings.pid)?;
            if let Some((start, before)) = &window {
                report.sent = self.sent - before.sent;
                self.end_window(client_pool.clock(), report);
                self.report(start, &reading, self.deliveries - before.deliveries, report)?;
                if let Some(open_loop) = &self.open_loop {
                    report.open_loop = Some(open_loop.report(self.busy(start, &reading, settings)?));
                }
                break;
            }
            if watch.stopped() {
                return Err(Error::Usage("stopped before anything was measured".into()));
            }
            window = Some((reading, self.begin_window(client_pool.clock())));
            next = now() + settings.window;
        }
        // Missing messages count as lost, so a stall here needs no error.
        while self.flying > 0 && self.turn(client_pool, settings, &mut patience).is_ok() {}
        self.report_latencies(report);
        let end = now() + LISTEN_ON;
        while now() < end {
            client_pool
                .turn(settings.patience(), &mut |client, payload, at| self.receive(client, payload, at))?;
        }
        Ok(())
    }

    /// Returns the share of the window in which this thread had work.
    fn busy(&self, start: &Reading, end: &Reading, settings: &Settings) -> Result<f64, Error> {
        let spent = start.until(end, self.exact)?;
        // A busy-polling thread always runs.
        let idle = self.idle as f64 / 1e9 / spent.wall.as_secs_f64();
        Ok(if settings.spin { (1.0 - idle).max(0.0) } else { spent.busy() })
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
    pub(super) fn begin_window(&mut self, clock: u64) -> Counts {
        self.latencies = Some(Latencies::new());
        self.idle = 0;
        if let Some(open_loop) = &mut self.open_loop {
            open_loop.begin_window(clock);
        }
        self.counts()
    }

    /// Reports the latencies and stops recording them.
    ///
    /// An open loop records on until all messages have landed, since an overloaded server delivers later.
    pub(super) fn end_window(&mut self, clock: u64, report: &mut Report) {
        match &mut self.open_loop {
            Some(open_loop) => open_loop.end_window(clock),
            None => self.report_latencies(report),
        }
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
    ) -> Result<bool, Error> {
        let before = self.deliveries;
        let received = match &self.open_loop {
            Some(open_loop) => {
                // Wait until the next message is due, up to the usual timeout.
                let due = Duration::from_nanos(open_loop.wait(client_pool.clock()));
                let timeout = settings.patience().min(due);
                client_pool.part_turn(EVENTS_BETWEEN_SENDS, timeout, &mut |client, payload, at| {
                    self.receive(client, payload, at);
                })?
            }
            None => {
                let deliver = &mut |client, payload: &[u8], at| self.receive(client, payload, at);
                let most = if settings.habit == Habit::SpreadWrites { 1 } else { usize::MAX };
                client_pool.part_turn(most, settings.patience(), deliver)?
            }
        };
        patience.check(self.deliveries > before || self.flying == 0, || {
            format!("{} messages in flight after {before} deliveries", self.flying)
        })?;
        Ok(received)
    }

    /// Sends a new message for each one that has landed; in an open loop, the messages that are due.
    pub(super) fn launch(&mut self, client_pool: &mut ClientPool) -> Result<(), Error> {
        if self.open_loop.is_some() {
            for _ in 0..SENDS_AT_ONCE {
                let clock = client_pool.clock();
                let Some(message) = self.open_loop.as_mut().and_then(|it| it.next(clock)) else { break };
                // The latency of a message that leaves late counts from its due time.
                self.send(client_pool, message.slot, message.due);
            }
        } else {
            let count = self.landed.len();
            for index in 0..count {
                self.send(client_pool, self.landed[index], client_pool.clock());
            }
            self.landed.drain(..count);
        }
        for sender in self.to_flush.drain(..) {
            client_pool.flush(sender)?;
        }
        Ok(())
    }

    fn send(&mut self, client_pool: &mut ClientPool, slot: u16, sent_at: u64) {
        let sender = usize::from(slot) / self.outstanding;
        let (group, stream) = match self.scenario {
            Scenario::Echo => (sender as u16, 0),
            _ => (self.random.usize(..self.groups.len()) as u16, sender as u16),
        };
        let sequence = self.verifier.send(group, stream);
        let is_member = sender % self.groups.len() == usize::from(group);
        let remaining = self.groups[usize::from(group)] - usize::from(self.without_sender && is_member);
        self.flights[usize::from(slot)] = Flight { group, stream, sequence, remaining };
        self.flying += 1;
        self.sent += 1;
        let stamp = Stamp { probe: false, group, stream, slot, sequence, sent_at };
        client_pool.say(sender, self.action(group), |out| stamp.write(out, self.payload, self.filler));
        self.to_flush.push(sender);
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
                match &mut self.open_loop {
                    Some(open_loop) => open_loop.land(stamp.slot),
                    None => self.landed.push(stamp.slot),
                }
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
        Ok(())
    }

    /// Writes the recorded latencies to the report, once.
    fn report_latencies(&mut self, report: &mut Report) {
        let Some(latencies) = self.latencies.take() else { return };
        let micros = |nanos: Option<u64>| nanos.map(|nanos| nanos as f64 / 1e3);
        let percentile = |share| micros(latencies.percentile(share));
        (report.p50_us, report.p90_us) = (percentile(0.50), percentile(0.90));
        (report.p99_us, report.p999_us) = (percentile(0.99), percentile(0.999));
        report.max_us = micros(latencies.max());
        report.histogram = Some(latencies.encode());
    }
}

/// Time to keep receiving after the last expected message, to detect duplicates.
pub(super) const LISTEN_ON: Duration = Duration::from_millis(50);
/// Maximum number of events handled between two looks at the schedule of an open loop.
const EVENTS_BETWEEN_SENDS: usize = 64;
/// Maximum number of messages sent between two looks at the sockets in an open loop.
const SENDS_AT_ONCE: usize = 64;
