//! Joins the rooms and probes every client before the load begins

use std::time::Duration;

use super::Scenario;
use super::exchange::Exchange;
use super::probes::Probes;
use super::settings::Settings;
use super::stamp::{Action, Stamp};
use super::swarm::{Patience, Swarm};
use crate::Error;
use crate::process::now;

/// Joins the rooms, and makes sure that every client is where messages reach it
///
/// A server may let a client in a little later than it says so. A message that is sent meanwhile would count as
/// lost, and no protocol promises otherwise.
pub(super) fn probe(exchange: &mut Exchange, swarm: &mut Swarm, settings: &Settings) -> Result<(), Error> {
    let clients = settings.clients;
    exchange.probes = Probes::new(None, exchange.groups.len(), clients);
    if exchange.scenario == Scenario::Rooms {
        return probe_rooms(exchange, swarm, settings);
    }
    if exchange.scenario == Scenario::Echo {
        for client in 0..clients {
            say_probe(exchange, swarm, client, client as u16, client as u32)?;
            if client % PROBES_AT_ONCE == 0 {
                swarm
                    .turn(Duration::ZERO, &mut |client, payload, at| exchange.receive(client, payload, at))?;
            }
        }
        let unseen = await_probes(exchange, swarm, settings, settings.stall, 0)?;
        return if unseen == 0 { Ok(()) } else { Err(Error::Stalled(reached(clients - unseen, clients))) };
    }
    let mut patience = Patience::new(settings.stall);
    let mut fewest_unseen = clients + 1;
    for attempt in 0.. {
        exchange.probes = Probes::new(Some(attempt), 1, clients);
        if exchange.without_sender {
            exchange.probes.receive(0, attempt);
        }
        say_probe(exchange, swarm, 0, 0, attempt)?;
        let unseen = await_probes(exchange, swarm, settings, settings.stall.min(PROBE_AGAIN), 0)?;
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
/// So a client hears one probe, however large its room is. Were each member to send one, a room of thousands would
/// get millions of messages before the load begins.
fn probe_rooms(exchange: &mut Exchange, swarm: &mut Swarm, settings: &Settings) -> Result<(), Error> {
    let (clients, rooms) = (settings.clients, exchange.groups.len());
    for client in 0..clients {
        swarm.say(client, Action::Join((client % rooms) as u16), |_| ());
        swarm.flush(client)?;
        if client % PROBES_AT_ONCE == 0 {
            swarm.turn(Duration::ZERO, &mut |client, payload, at| exchange.receive(client, payload, at))?;
        }
    }
    if exchange.without_sender {
        return wait_blindly(exchange, swarm, settings);
    }
    let quiet = settings.stall.min(PROBE_AGAIN);
    let mut patience = Patience::new(settings.stall);
    while exchange.probes.unseen > 0 {
        let mut missing = vec![0; rooms];
        (0..clients).filter(|&client| !exchange.probes.seen[client]).for_each(|it| missing[it % rooms] += 1);
        let mut left = exchange.probes.unseen;
        let (mut before, mut under_way) = (left, 0);
        for room in (0..rooms).filter(|&room| missing[room] > 0) {
            say_probe(exchange, swarm, room, room as u16, room as u32)?;
            left -= missing[room];
            under_way += exchange.groups[room];
            if under_way >= PROBED_AT_ONCE || left == 0 {
                let unseen = await_probes(exchange, swarm, settings, quiet, left)?;
                patience.check(unseen < before, || reached(clients - unseen, clients))?;
                (before, under_way) = (unseen, 0);
            }
        }
    }
    Ok(())
}

/// Gives the server a while for the joins, where no probe comes back
fn wait_blindly(exchange: &mut Exchange, swarm: &mut Swarm, settings: &Settings) -> Result<(), Error> {
    let end = now() + JOINING;
    while now() < end {
        swarm.turn(settings.patience(), &mut |client, payload, at| exchange.receive(client, payload, at))?;
    }
    Ok(())
}

fn say_probe(
    exchange: &Exchange,
    swarm: &mut Swarm,
    client: usize,
    group: u16,
    number: u32,
) -> Result<(), Error> {
    let stamp = Stamp { probe: true, group, stream: 0, slot: 0, sequence: number, sent_at: 0 };
    swarm.say(client, exchange.action(group), |out| stamp.write(out, exchange.payload, exchange.filler));
    swarm.flush(client)
}

/// Waits until all but `left` probes are seen, or none came for a while; returns how many are not seen
fn await_probes(
    exchange: &mut Exchange,
    swarm: &mut Swarm,
    settings: &Settings,
    quiet: Duration,
    left: usize,
) -> Result<usize, Error> {
    let mut last = now();
    while exchange.probes.unseen > left && now() - last <= quiet {
        let before = exchange.probes.unseen;
        swarm.turn(settings.patience(), &mut |client, payload, at| exchange.receive(client, payload, at))?;
        if exchange.probes.unseen < before {
            last = now();
        }
    }
    Ok(exchange.probes.unseen)
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::Options;
    use super::super::watch::Unwatched;
    use super::*;
    use roomcast_compare::limit::testing::Running;
    use roomcast_compare::limit::{Pattern, Send};

    /// How many probes came to the clients before the load
    fn probes_heard(clients: usize, rooms: usize) -> usize {
        let server = Running::new(Send::Write, Pattern::Room);
        let port = server.address.port();
        let line = format!("loadgen --port {port} --scenario rooms --clients {clients}");
        let mut settings = Options::parse_from(line.split(' ')).settings();
        settings.groups = rooms;
        let mut swarm = Swarm::connect(&settings, &mut Unwatched).unwrap();
        let mut exchange = Exchange::new(&settings);
        probe(&mut exchange, &mut swarm, &settings).unwrap();
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
