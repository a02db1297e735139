//! Broadcast, room and echo scenarios.

use super::Watch;
use super::client_pool::ClientPool;
use super::exchange::Exchange;
use super::probing::probe;
use super::settings::Settings;
use crate::{Error, Failure, Report};

/// Connects, probes, warms up, measures, and waits for all messages in flight.
pub(super) fn run(settings: &Settings, watch: &mut dyn Watch, report: &mut Report) -> Result<(), Error> {
    (report.senders, report.outstanding) = (settings.senders, settings.outstanding);
    let mut client_pool = ClientPool::connect(settings, watch)?;
    let mut exchange = Exchange::new(settings);
    for speaker in 0..settings.speakers() {
        client_pool.let_speak(speaker)?;
    }
    let outcome = probe(&mut exchange, &mut client_pool, settings).and_then(|()| {
        report.failure = Some(Failure::Load);
        exchange.load(&mut client_pool, settings, watch, report)
    });
    report.faults = exchange.faults();
    report.others = client_pool.others();
    if settings.gentle {
        client_pool.send_close();
    }
    outcome
}
