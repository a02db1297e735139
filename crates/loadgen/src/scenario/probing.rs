//! Joins of rooms, and probes of every client, before the load.

use std::time::Duration;

use super::Scenario;
use super::client_pool::{ClientPool, Patience};
use super::exchange::Exchange;
use super::probes::Probes;
use super::settings::Settings;
use super::stamp::{Action, Stamp};
use crate::Error;
use crate::process::now;

/// Joins the rooms and probes that messages reach every client.
///
/// A server may register a client shortly after it has confirmed the connection. No protocol rules this out, and a
/// message sent in between would count as lost.
pub(super) fn probe(
    exchange: &mut Exchange,
    client_pool: &mut ClientPool,
    settings: &Settings,
) -> Result<(), Error> {
    let clients = settings.clients;
    exchange.probes = Probes::new(None, exchange.groups.len(), clients);
    if exchange.scenario == Scenario::Rooms {
        return probe_rooms(exchange, client_pool, settings);
    }
    if exchange.scenario == Scenario::Echo {
        for client in 0..clients {
            say_probe(exchange, client_pool, client, client as u16, client as u32)?;
            if client % PROBES_AT_ONCE == 0 {
                client_pool
                    .turn(Duration::ZERO, &mut |client, payload, at| exchange.receive(client, payload, at))?;
            }
        }
        let unseen = await_probes(exchange, client_pool, settings, settings.stall, 0)?;
        return if unseen == 0 { Ok(()) } else { Err(Error::Stalled(reached(clients - unseen, clients))) };
    }
    let mut patience = Patience::new(settings.stall);
    let mut fewest_unseen = clients + 1;
    for attempt in 0.. {
        exchange.probes = Probes::new(Some(attempt), 1, clients);
        if exchange.without_sender {
            exchange.probes.receive(0, attempt);
        }
        say_probe(exchange, client_pool, 0, 0, attempt)?;
        let unseen = await_probes(exchange, client_pool, settings, settings.stall.min(PROBE_AGAIN), 0)?;
        if unseen == 0 {
            break;
        }
        patience.check(unseen < fewest_unseen, || reached(clients - unseen, clients))?;
        fewest_unseen = fewest_unseen.min(unseen);
    }
    Ok(())
}

/// Joins the rooms; the first member of each sends until all members have received a message.
///
/// Each client then receives one probe. If every member sent one, a room of thousands would get millions of messages.
fn probe_rooms(
    exchange: &mut Exchange,
    client_pool: &mut ClientPool,
    settings: &Settings,
) -> Result<(), Error> {
    let (clients, rooms) = (settings.clients, exchange.groups.len());
    for client in 0..clients {
        client_pool.say(client, Action::Join((client % rooms) as u16), |_| ());
        client_pool.flush(client)?;
        if client % PROBES_AT_ONCE == 0 {
            client_pool
                .turn(Duration::ZERO, &mut |client, payload, at| exchange.receive(client, payload, at))?;
        }
    }
    if exchange.without_sender {
        return wait_unmonitored(exchange, client_pool, settings);
    }
    let quiet = settings.stall.min(PROBE_AGAIN);
    let mut patience = Patience::new(settings.stall);
    while exchange.probes.unseen > 0 {
        let mut missing = vec![0; rooms];
        (0..clients).filter(|&client| !exchange.probes.seen[client]).for_each(|it| missing[it % rooms] += 1);
        let mut left = exchange.probes.unseen;
        let (mut before, mut under_way) = (left, 0);
        for room in (0..rooms).filter(|&room| missing[room] > 0) {
            say_probe(exchange, client_pool, room, room as u16, room as u32)?;
            left -= missing[room];
            under_way += exchange.groups[room];
            if under_way >= PROBED_AT_ONCE || left == 0 {
                let unseen = await_probes(exchange, client_pool, settings, quiet, left)?;
                patience.check(unseen < before, || reached(clients - unseen, clients))?;
                (before, under_way) = (unseen, 0);
            }
        }
    }
    Ok(())
}

/// Waits for the joins, where the sender would receive no probe.
fn wait_unmonitored(
    exchange: &mut Exchange,
    client_pool: &mut ClientPool,
    settings: &Settings,
) -> Result<(), Error> {
    let end = now() + JOINING;
    while now() < end {
        client_pool
            .turn(settings.patience(), &mut |client, payload, at| exchange.receive(client, payload, at))?;
    }
    Ok(())
}

fn say_probe(
    exchange: &Exchange,
    client_pool: &mut ClientPool,
    client: usize,
    group: u16,
    number: u32,
) -> Result<(), Error> {
    let stamp = Stamp { probe: true, group, stream: 0, slot: 0, sequence: number, sent_at: 0 };
    client_pool
        .say(client, exchange.action(group), |out| stamp.write(out, exchange.payload, exchange.filler));
    client_pool.flush(client)
}

/// Waits until at most `left` probes are missing, or none arrives for `quiet`. Returns the number of missing probes.
fn await_probes(
    exchange: &mut Exchange,
    client_pool: &mut ClientPool,
    settings: &Settings,
    quiet: Duration,
    left: usize,
) -> Result<usize, Error> {
    let mut last = now();
    while exchange.probes.unseen > left && now() - last <= quiet {
        let before = exchange.probes.unseen;
        client_pool
            .turn(settings.patience(), &mut |client, payload, at| exchange.receive(client, payload, at))?;
        if exchange.probes.unseen < before {
            last = now();
        }
    }
    Ok(exchange.probes.unseen)
}

fn reached(seen: usize, clients: usize) -> String {
    format!("first message received by {seen} of {clients} clients")
}

/// Time to wait for joins that no probe confirms.
const JOINING: Duration = Duration::from_secs(1);
const PROBES_AT_ONCE: usize = 64;
/// Maximum number of clients probed at a time, unless a single room has more.
const PROBED_AT_ONCE: usize = 256;
/// Time to wait for a probe before it is repeated.
const PROBE_AGAIN: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::Options;
    use super::super::watch::Unwatched;
    use super::*;
    use roomcast_compare::limit::testing::Running;
    use roomcast_compare::limit::{Pattern, Send};

    /// Returns the number of probes received before the load.
    fn probes_received(clients: usize, rooms: usize) -> usize {
        let server = Running::new(Send::Write, Pattern::Room);
        let port = server.address.port();
        let line = format!("loadgen --port {port} --scenario rooms --clients {clients}");
        let mut settings = Options::parse_from(line.split(' ')).settings();
        settings.groups = rooms;
        let mut client_pool = ClientPool::connect(&settings, &mut Unwatched).unwrap();
        let mut exchange = Exchange::new(&settings);
        probe(&mut exchange, &mut client_pool, &settings).unwrap();
        assert_eq!(exchange.probes.unseen, 0);
        exchange.probes.heard
    }

    #[test]
    fn probes_each_room_once() {
        for (clients, rooms) in [(600, 1), (600, 600), (600, 7)] {
            let heard = probes_received(clients, rooms);
            // A probe is repeated if a client has not joined yet, on a busy machine several times.
            assert!((clients..20 * clients).contains(&heard), "{heard} by {clients} in {rooms} rooms");
        }
    }
}
