//! Broadcast, room and echo scenarios.

use super::Watch;
use super::exchange::Exchange;
use super::probing::probe;
use super::settings::Settings;
use super::swarm::Swarm;
use crate::{Error, Report};

/// Connects, probes, warms up, measures, and waits for all messages in flight.
pub(super) fn run(settings: &Settings, watch: &mut dyn Watch, report: &mut Report) -> Result<(), Error> {
    (report.senders, report.outstanding) = (settings.senders, settings.outstanding);
    let mut swarm = Swarm::connect(settings, watch)?;
    let mut exchange = Exchange::new(settings);
    for speaker in 0..settings.speakers() {
        swarm.let_speak(speaker)?;
    }
    let outcome = probe(&mut exchange, &mut swarm, settings)
        .and_then(|()| exchange.load(&mut swarm, settings, watch, report));
    report.faults = exchange.faults();
    report.others = swarm.others();
    if settings.gentle {
        swarm.say_goodbye();
    }
    outcome
}
