//! Cost of a message that crosses servers: a sender, a receiver and Redis, with one client per server.
//!
//! The local work is subtracted. For the sender, it is measured by the same server alone under the same load. The
//! receiver sends each message to its client; a second client shows the cost of that.

mod bare;
mod changes;
mod member;
mod redis;
mod session;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use roomcast_loadgen::process::{CpuTime, MachineTime, now, own_cpu_time};
use roomcast_loadgen::{ClusterReport, Error, ErrorContext as _, Report};
use rustix::thread::CpuSet;

use crate::child::{Running, free_port};
use bare::BareClients;
use redis::Redis;
use session::Session;

/// Load of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClusterLoad {
    /// All of the other variants, before they are expanded.
    All,
    /// As many messages as possible, to a room with a member on each server.
    Saturated,
    /// 1,000 messages per second to that room.
    Paced,
    /// As many messages as possible, to a room without members at the receiver.
    NoMembers,
    /// As many messages as possible, to [`ROOMS`] rooms in turn, with a member of each on each server.
    Rooms,
    /// Changes of the sessions of 500 clients on one server.
    Sessions,
}

impl ClusterLoad {
    pub(super) const EACH: [Self; 5] =
        [Self::Saturated, Self::Paced, Self::NoMembers, Self::Rooms, Self::Sessions];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::All => "cluster",
            Self::Saturated => "cluster-saturated",
            Self::Paced => "cluster-paced",
            Self::NoMembers => "cluster-no-members",
            Self::Rooms => "cluster-rooms",
            Self::Sessions => "cluster-sessions",
        }
    }

    /// Events of one command to the sender.
    fn burst(self) -> u64 {
        match self {
            Self::Paced => 1,
            // The last one is for the room of the receiver, whose cost should not matter.
            Self::NoMembers => 1024,
            Self::Saturated | Self::Rooms | Self::Sessions | Self::All => 64,
        }
    }

    /// Number of rooms, each of which has its own order.
    fn rooms(self) -> u64 {
        if self == Self::Rooms { ROOMS } else { 1 }
    }

    /// Whether the last event of a burst is for a room with a member at the receiver.
    fn has_marker(self) -> bool {
        self == Self::NoMembers
    }

    /// Maximum number of bursts in flight; a client's queue at the server has to hold their events.
    fn in_flight(self) -> u64 {
        if self == Self::NoMembers { 2 } else { 16 }
    }

    fn interval(self) -> Option<Duration> {
        (self == Self::Paced).then_some(Duration::from_millis(1))
    }
}

/// One run of a kind of server.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    pub(super) load: ClusterLoad,
    /// Length of the text in a message.
    pub(super) bytes: usize,
    pub(super) program: &'a Path,
    /// Arguments with the placeholders `{port}`, `{redis}` for each Redis server, or `{role}` for the bare client.
    pub(super) arguments: &'a [String],
    pub(super) is_bare: bool,
    pub(super) server_cpu: CpuSet,
    /// CPU of Redis and of this program's threads.
    pub(super) load_cpu: CpuSet,
    pub(super) own_cpus: CpuSet,
    pub(super) warmup: Duration,
    pub(super) window: Duration,
}

/// Result of a run.
#[derive(Debug)]
pub(super) struct Measured {
    cluster: ClusterReport,
    load: ClusterLoad,
    wall: Duration,
    foreign: Duration,
}

impl Bench<'_> {
    /// Runs the server alone, then the cluster, and then the cluster with a second client of the receiver.
    ///
    /// # Errors
    ///
    /// Fails if a program cannot be started, or an event is lost, reordered or repeated.
    pub(super) fn run(&self) -> Result<Measured, Error> {
        // Threads that read for the clients inherit the CPU.
        self.on(&self.load_cpu)?;
        let measured = self.run_here();
        self.on(&self.own_cpus)?;
        measured
    }

    fn run_here(&self) -> Result<Measured, Error> {
        let count = self.arguments.iter().filter(|argument| *argument == REDIS).count();
        let redis = (0..count.max(1)).map(|_| Redis::start(&self.load_cpu, &self.load_cpu));
        let redis = redis.collect::<Result<Vec<_>, _>>()?;
        let pids = |processes: [u32; 2]| -> Vec<u32> {
            processes.into_iter().chain(redis.iter().map(Redis::pid)).collect()
        };
        if self.is_bare {
            let start = |role: &str, pipes: &mut dyn FnMut(&mut Command)| {
                self.start(&[("{role}", role)], &redis, false, pipes)
            };
            let mut clients = BareClients::start(start, self.bytes)?;
            clients.run(self.warmup)?;
            let spent = Spent::of(&pids(clients.pids()), || clients.run(self.window))?;
            return Ok(self.measured(&spent, 0.0, 0.0));
        }
        if self.load == ClusterLoad::Sessions {
            return changes::run(self, &redis);
        }
        let alone = self.serve(&redis, true)?;
        let mut session = Session::start(self.load, self.bytes, alone.port)?;
        session.run(self.warmup / 2)?;
        let spent = Spent::of(&[alone.pid()], || session.run(self.window / 2))?;
        let local = spent.us(0);
        drop((session, alone));

        let (sender, receiver) = (self.serve(&redis, false)?, self.serve(&redis, false)?);
        let session = Session::start(self.load, self.bytes, sender.port)?;
        let mut session = session.add_receiver(receiver.port)?;
        session.run(self.warmup)?;
        let pids = pids([sender.pid(), receiver.pid()]);
        let spent = Spent::of(&pids, || session.run(self.window))?;
        if self.load == ClusterLoad::NoMembers {
            return Ok(self.measured(&spent, local, 0.0));
        }
        let mut session = session.add_receiver(receiver.port)?;
        session.run(self.warmup / 2)?;
        let with_second = Spent::of(&pids, || session.run(self.window))?;
        Ok(self.measured(&spent, local, with_second.us(1) - spent.us(1)))
    }

    fn measured(&self, spent: &Spent, local: f64, send: f64) -> Measured {
        let cluster = ClusterReport {
            sender_us: spent.us(0) - local,
            receiver_us: spent.us(1) - send,
            local_us: local,
            send_us: send,
            redis_us: (2..spent.times.len()).map(|process| spent.us(process)).sum(),
            messages: spent.messages,
            messages_per_s: spent.messages as f64 / spent.wall.as_secs_f64(),
            ..ClusterReport::default()
        };
        Measured { cluster, load: self.load, wall: spent.wall, foreign: spent.foreign }
    }

    /// Starts a server and waits until it listens.
    fn serve(&self, redis: &[Redis], alone: bool) -> Result<Server, Error> {
        let port = free_port().doing(|| "find a free port".into())?;
        let words = [("{port}", &*port.to_string())];
        let mut process = self.start(&words, redis, alone, &mut |command| {
            command.stdin(Stdio::null()).stdout(Stdio::null());
        })?;
        process.wait_until_it_accepts(port).map_err(Error::Server)?;
        Ok(Server { process, port })
    }

    fn start(
        &self,
        words: &[(&str, &str)],
        redis: &[Redis],
        alone: bool,
        pipes: &mut dyn FnMut(&mut Command),
    ) -> Result<Running, Error> {
        let mut command = Command::new(self.program);
        let mut is_adapter = false;
        let mut urls = redis.iter().map(Redis::url);
        for argument in self.arguments {
            let url = if argument == REDIS { urls.next() } else { None };
            let word = words.iter().find(|(name, _)| name == argument).map(|(_, value)| *value);
            let value = url.as_deref().or(word).unwrap_or(argument);
            command.arg(if alone && is_adapter { "none" } else { value });
            is_adapter = argument == "--adapter";
        }
        pipes(&mut command);
        Running::start(&mut command, &self.server_cpu, &self.load_cpu)
    }

    fn on(&self, cpus: &CpuSet) -> Result<(), Error> {
        roomcast_loadgen::process::run_on(cpus).doing(|| "move to another CPU".into())
    }
}

impl Measured {
    /// Returns a report, with the CPU time of the sender and the receiver.
    pub(super) fn report(self, base: Report) -> Report {
        let Self { cluster, load, wall, foreign } = self;
        let cpu = match load {
            ClusterLoad::NoMembers => cluster.receiver_us,
            _ => cluster.sender_us + cluster.receiver_us,
        };
        Report {
            deliveries: cluster.messages,
            deliveries_per_s: cluster.messages_per_s,
            sent: cluster.messages,
            window_s: wall.as_secs_f64(),
            cpu_us_per_delivery: Some(cpu),
            foreign_cores: Some(foreign.as_secs_f64() / wall.as_secs_f64()),
            cluster: Some(cluster),
            ..base
        }
    }
}

struct Server {
    process: Running,
    port: u16,
}

impl Server {
    fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

/// CPU time of processes during a number of messages. No message is in flight at the start and at the end.
struct Spent {
    times: Vec<Duration>,
    messages: u64,
    wall: Duration,
    /// CPU time of all other processes.
    foreign: Duration,
}

impl Spent {
    fn of(pids: &[u32], work: impl FnOnce() -> Result<u64, Error>) -> Result<Self, Error> {
        let read = || {
            let mut times = Vec::with_capacity(pids.len());
            for pid in pids {
                times.push(CpuTime::of(*pid).doing(|| format!("read the CPU time of process {pid}"))?);
            }
            Ok::<_, Error>((
                times,
                MachineTime::read().doing(|| "read /proc/stat".into())?,
                own_cpu_time(),
                now(),
            ))
        };
        let (before, machine, own, begun) = read()?;
        let messages = work()?;
        let (after, machine_after, own_after, ended) = read()?;
        let spent = after.into_iter().zip(before);
        let times: Vec<Duration> = spent
            .map(|(after, before)| after.since(before).unwrap_or_else(|| after.since_roughly(before)))
            .collect();
        let wall = ended - begun;
        let known = times.iter().sum::<Duration>()
            + (own_after - own)
            + machine_after.idle.saturating_sub(machine.idle)
            + machine_after.stolen.saturating_sub(machine.stolen);
        Ok(Self { times, messages, wall, foreign: (wall * machine.cpus).saturating_sub(known) })
    }

    /// Returns the CPU time of a process per message, in µs.
    fn us(&self, process: usize) -> f64 {
        self.times[process].as_secs_f64() * 1e6 / self.messages as f64
    }
}

/// Rooms of [`ClusterLoad::Rooms`]; a probe of each sets a bit.
const ROOMS: u64 = 64;
/// Placeholder of the URL of a Redis server.
const REDIS: &str = "{redis}";
