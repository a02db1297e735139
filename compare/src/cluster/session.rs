//! Load on one server or two, through their clients.

use std::thread;
use std::time::Duration;

use roomcast_loadgen::Error;
use roomcast_loadgen::process::now;

use super::ClusterLoad;
use super::member::{Member, Numbers, PROBE};

/// Clients of a sender and a receiver; without a receiver, the sender is alone.
pub(super) struct Session {
    sender: Member,
    receivers: Vec<Receiver>,
    load: ClusterLoad,
    bytes: usize,
    /// Number of completed and pending bursts.
    bursts: u64,
}

/// Client of the receiver.
struct Receiver {
    member: Member,
    /// Number of bursts that were sent before it joined.
    joined_at: u64,
}

impl Session {
    /// Connects the client of the sender.
    pub(super) fn start(load: ClusterLoad, bytes: usize, port: u16) -> Result<Self, Error> {
        let rooms = load.rooms();
        let mut sender = Member::connect(port, Numbers { first: 0, step: rooms, rooms })?;
        join(&mut sender, load)?;
        sender.emit("join", &format!("\"{ROOM_OF_SENDER}\""))?;
        let session = Self { sender, receivers: Vec::new(), load, bytes, bursts: 0 };
        session.arrived()
    }

    /// Connects a client of the receiver, and waits until it receives the sender's events.
    pub(super) fn add_receiver(mut self, port: u16) -> Result<Self, Error> {
        let size = self.load.burst();
        let next = self.bursts * size;
        // It receives only the last event of a burst to the other room.
        let rooms = self.load.rooms();
        let numbers = match self.load.has_marker() {
            true => Numbers { first: next + size - 1, step: size, rooms },
            false => Numbers { first: next, step: rooms, rooms },
        };
        let mut member = Member::connect(port, numbers)?;
        join(&mut member, self.load)?;
        self.receivers.push(Receiver { member, joined_at: self.bursts });
        self.arrived()
    }

    /// Sends probes until each client has received one, and the sender's client all of them.
    #[expect(clippy::disallowed_methods, reason = "servers cannot be awaited to hear each other")]
    fn arrived(mut self) -> Result<Self, Error> {
        let deadline = now() + PATIENCE;
        let mut last = self.sender.events().probes();
        let rooms = self.load.rooms();
        let has_arrived =
            |session: &Self| session.receivers.iter().all(|it| it.member.events().is_probed(rooms));
        loop {
            for room in 0..rooms {
                self.emit(&name(self.load, room), PROBE - room, 1)?;
            }
            last += rooms;
            while self.sender.events().probes() < last {
                if now() > deadline {
                    return Err(Error::Stalled("no event arrived".into()));
                }
                thread::sleep(Duration::from_millis(5));
            }
            if has_arrived(&self) {
                return Ok(self);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends bursts for a time, and waits for the last event; returns the number of events.
    pub(super) fn run(&mut self, time: Duration) -> Result<u64, Error> {
        let (begun, before) = (now(), self.bursts);
        while now() - begun < time {
            match self.load.interval() {
                None => self.wait_for(self.bursts.saturating_sub(self.load.in_flight() / 2))?,
                Some(interval) => self.pace(begun + interval.mul_f64((self.bursts - before) as f64))?,
            }
            let ahead = if self.load.interval().is_some() { 1 } else { self.load.in_flight() / 2 };
            for _ in 0..ahead {
                self.send_burst()?;
            }
        }
        self.wait_for(self.bursts)?;
        Ok((self.bursts - before) * self.load.burst())
    }

    fn send_burst(&mut self) -> Result<(), Error> {
        let size = self.load.burst();
        let first = self.bursts * size;
        self.bursts += 1;
        if self.load.has_marker() {
            self.emit(ROOM_OF_SENDER, first, size - 1)?;
            self.emit(ROOM, first + size - 1, 1)
        } else if self.load == ClusterLoad::Rooms {
            let (rooms, bytes) = (self.load.rooms(), self.bytes);
            self.sender.emit("spread", &format!("{rooms},{first},{size},{bytes}"))
        } else {
            self.emit(ROOM, first, size)
        }
    }

    fn emit(&mut self, room: &str, first: u64, count: u64) -> Result<(), Error> {
        let bytes = self.bytes;
        self.sender.emit("burst", &format!("\"{room}\",{first},{count},{bytes}"))
    }

    /// Waits until all clients have received the events of a number of bursts.
    fn wait_for(&self, bursts: u64) -> Result<(), Error> {
        let size = self.load.burst();
        let of_receiver = if self.load.has_marker() { 1 } else { size };
        let receivers = self.receivers.iter().map(|it| (&it.member, of_receiver, it.joined_at));
        for (client, events, joined_at) in [(&self.sender, size, 0)].into_iter().chain(receivers) {
            let (client, count) = (client.events(), bursts.saturating_sub(joined_at) * events);
            let (mut deadline, mut last) = (now() + PATIENCE, 0);
            loop {
                client.wake_at(count);
                let received = client.count()?;
                if received >= count {
                    break;
                }
                if received > last {
                    (deadline, last) = (now() + PATIENCE, received);
                } else if now() > deadline {
                    return Err(Error::Stalled(format!("{received} of {count} events arrived")));
                }
                thread::park_timeout(Duration::from_millis(100));
            }
        }
        Ok(())
    }

    /// Waits until an event is due.
    #[expect(clippy::disallowed_methods, reason = "the load has a fixed rate")]
    fn pace(&self, due: Duration) -> Result<(), Error> {
        let late = self.sender.events().count()?.saturating_add(MOST_LATE) < self.bursts;
        if late {
            return Err(Error::Stalled("the sender is slower than the rate".into()));
        }
        thread::sleep(due.saturating_sub(now()));
        Ok(())
    }
}

/// Joins all rooms of a load.
fn join(member: &mut Member, load: ClusterLoad) -> Result<(), Error> {
    (0..load.rooms()).try_for_each(|room| member.emit("join", &format!("\"{}\"", name(load, room))))
}

/// Returns the name of a room.
fn name(load: ClusterLoad, room: u64) -> String {
    if load == ClusterLoad::Rooms { format!("room-{room}") } else { ROOM.to_owned() }
}

const ROOM: &str = "measured";
/// Room without members at the receiver.
const ROOM_OF_SENDER: &str = "elsewhere";
const PATIENCE: Duration = Duration::from_secs(10);
/// Events in flight above which a fixed rate is not sustained.
const MOST_LATE: u64 = 1000;
