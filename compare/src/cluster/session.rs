//! Load on one server or two, through one client each.

use std::thread;
use std::time::Duration;

use roomcast_loadgen::Error;
use roomcast_loadgen::process::now;

use super::ClusterLoad;
use super::member::{Member, Numbers, PROBE};

/// Clients of a sender and a receiver; without a receiver, the sender is alone.
pub(super) struct Session {
    sender: Member,
    receiver: Option<Member>,
    load: ClusterLoad,
    bytes: usize,
    /// Number of completed and pending bursts.
    bursts: u64,
}

impl Session {
    /// Connects the clients, and waits until the sender's events reach the receiver.
    #[expect(clippy::disallowed_methods, reason = "servers cannot be awaited to hear each other")]
    pub(super) fn start(
        load: ClusterLoad,
        bytes: usize,
        sender: u16,
        receiver: Option<u16>,
    ) -> Result<Self, Error> {
        let size = load.burst();
        let all = Numbers { first: 0, step: 1 };
        // Of a burst to the other room, it receives the last event.
        let last = Numbers { first: size - 1, step: size };
        let expected = if load.has_marker() { last } else { all };
        let mut sender = Member::connect(sender, all)?;
        let mut receiver = receiver.map(|port| Member::connect(port, expected)).transpose()?;
        sender.emit("join", &format!("\"{ROOM}\""))?;
        sender.emit("join", &format!("\"{ROOM_OF_SENDER}\""))?;
        if let Some(receiver) = &mut receiver {
            receiver.emit("join", &format!("\"{ROOM}\""))?;
        }
        let mut session = Self { sender, receiver, load, bytes, bursts: 0 };
        let deadline = now() + PATIENCE;
        let mut sent = 0;
        let arrived = |session: &Self| session.receiver.as_ref().is_none_or(|it| it.events().probes() > 0);
        while sent == 0 || !arrived(&session) || session.sender.events().probes() < sent {
            if now() > deadline {
                return Err(Error::Stalled("no event of the sender reached the receiver".into()));
            }
            session.emit(ROOM, PROBE, 1)?;
            sent += 1;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(session)
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
        } else {
            self.emit(ROOM, first, size)
        }
    }

    fn emit(&mut self, room: &str, first: u64, count: u64) -> Result<(), Error> {
        let bytes = self.bytes;
        self.sender.emit("burst", &format!("\"{room}\",{first},{count},{bytes}"))
    }

    /// Waits until both clients have received the events of a number of bursts.
    fn wait_for(&self, bursts: u64) -> Result<(), Error> {
        let size = self.load.burst();
        let of_receiver = if self.load.has_marker() { 1 } else { size };
        let clients = [Some((&self.sender, size)), self.receiver.as_ref().map(|it| (it, of_receiver))];
        for (client, events) in clients.into_iter().flatten() {
            let (client, count) = (client.events(), bursts * events);
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

const ROOM: &str = "measured";
/// Room without members at the receiver.
const ROOM_OF_SENDER: &str = "elsewhere";
const PATIENCE: Duration = Duration::from_secs(10);
/// Events in flight above which a fixed rate is not sustained.
const MOST_LATE: u64 = 1000;
