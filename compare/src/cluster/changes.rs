//! Load of changing sessions on one server.

use std::thread;
use std::time::Duration;

use roomcast_loadgen::process::now;
use roomcast_loadgen::{ClusterReport, Error};

use super::member::{Member, Numbers, PROBE};
use super::redis::Redis;
use super::{Bench, Measured, Spent};

/// Changes the data of each client's session in turn; afterwards, all clients are idle.
pub(super) fn run(bench: &Bench<'_>, redis: &[Redis]) -> Result<Measured, Error> {
    let server = bench.serve(redis, false)?;
    let connect = |_| Member::connect(server.port, Numbers { first: 0, step: 1, rooms: 1 });
    let clients = (0..CLIENTS).map(connect).collect::<Result<_, _>>()?;
    let mut changes = Changes { clients, number: 0, turns: 0 };
    changes.join()?;
    changes.run(bench.warmup)?;
    let pids: Vec<u32> = [server.pid()].into_iter().chain(redis.iter().map(Redis::pid)).collect();
    let spent = Spent::of(&pids, || changes.run(bench.window))?;
    let idle = Spent::of(&pids, || {
        pause(bench.window);
        Ok(1)
    })?;
    let idle_time: Duration = idle.times.iter().sum();
    let cluster = ClusterReport {
        sender_us: spent.us(0),
        redis_us: (1..spent.times.len()).map(|process| spent.us(process)).sum(),
        idle_us: idle_time.as_secs_f64() * 1e6 / idle.wall.as_secs_f64() / CLIENTS as f64,
        messages: spent.messages,
        messages_per_s: spent.messages as f64 / spent.wall.as_secs_f64(),
        ..ClusterReport::default()
    };
    Ok(Measured { cluster, load: bench.load, wall: spent.wall, foreign: spent.foreign })
}

struct Changes {
    clients: Vec<Member>,
    /// Number of changes.
    number: u64,
    /// Number of waits for all changes.
    turns: u64,
}

impl Changes {
    /// Joins each client to its room.
    fn join(&mut self) -> Result<(), Error> {
        let clients = self.clients.iter_mut().enumerate();
        clients.into_iter().try_for_each(|(number, client)| client.emit("join", &room(number)))
    }

    /// Changes all sessions again and again for a time, and waits until they are written; returns the number of changes.
    fn run(&mut self, time: Duration) -> Result<u64, Error> {
        let (begun, before) = (now(), self.number);
        while now() - begun < time {
            for _ in 0..CLIENTS / STEPS {
                let client = self.number as usize % CLIENTS;
                self.clients[client].emit("change", &self.number.to_string())?;
                self.number += 1;
            }
            let steps = (self.number - before) / (CLIENTS / STEPS) as u64;
            let due = begun + INTERVAL.mul_f64(steps as f64 / STEPS as f64);
            pause(due.saturating_sub(now()));
        }
        self.all_handled()?;
        pause(2 * INTERVAL);
        Ok(self.number - before)
    }

    /// Waits until the server has handled all changes: each client requests an event in its room.
    fn all_handled(&mut self) -> Result<(), Error> {
        for (number, client) in self.clients.iter_mut().enumerate() {
            client.emit("burst", &format!("{},{PROBE},1,10", room(number)))?;
        }
        let deadline = now() + PATIENCE;
        self.turns += 1;
        for client in &self.clients {
            while client.events().probes() < self.turns {
                client.events().count()?;
                if now() > deadline {
                    return Err(Error::Stalled("a change was not handled".into()));
                }
                pause(Duration::from_millis(1));
            }
        }
        Ok(())
    }
}

fn room(client: usize) -> String {
    format!("\"own {client}\"")
}

#[expect(clippy::disallowed_methods, reason = "the load has a fixed rate")]
fn pause(time: Duration) {
    thread::sleep(time);
}

const CLIENTS: usize = 500;
/// Steps in which all clients have a change.
const STEPS: usize = 10;
/// Time between two changes of a session: longer than changes are collected, so that each is written.
const INTERVAL: Duration = Duration::from_millis(125);
const PATIENCE: Duration = Duration::from_secs(10);
