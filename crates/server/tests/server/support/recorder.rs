//! Recorders that pass what handlers report to the test.

use std::fmt::Debug;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use roomcast_server::{Io, Socket};
use tokio::sync::Semaphore;

use super::PATIENCE;

/// Receives what handlers report; handlers hold the [`Teller`].
#[derive(Debug)]
pub struct Recorder<T>(Receiver<T>);

pub type Teller<T> = Sender<T>;

#[expect(clippy::disallowed_methods, reason = "handlers send without blocking and end with the test")]
pub fn ear<T>() -> (Teller<T>, Recorder<T>) {
    let (teller, heard) = channel();
    (teller, Recorder(heard))
}

/// Records the sockets that connect to the main namespace.
pub fn arrivals(io: &Io) -> Recorder<Socket> {
    let (told, sockets) = ear();
    io.on_connect(move |socket: Socket| {
        let _ = told.send(socket);
        async {}
    });
    sockets
}

impl<T: Debug> Recorder<T> {
    /// Returns the next report.
    #[track_caller]
    pub fn next(&self) -> T {
        self.0.recv_timeout(PATIENCE).expect("a report in time")
    }

    #[track_caller]
    pub fn take(&self, count: usize) -> Vec<T> {
        (0..count).map(|_| self.next()).collect()
    }

    /// Returns all reports so far.
    pub fn all(&self) -> Vec<T> {
        self.0.try_iter().collect()
    }
}

/// Gate at which handlers wait for the test.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    pub fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Opens the gate for good.
    pub fn open(&self) {
        self.0.close();
    }

    /// Lets one waiter pass.
    pub fn let_one_pass(&self) {
        self.0.add_permits(1);
    }

    pub async fn pass(&self) {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

/// Log that handlers write to, in order.
#[derive(Debug)]
pub struct Log<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Log<T> {
    pub fn write(&self, entry: T) {
        self.0.lock().expect("not poisoned").push(entry);
    }

    pub fn read(&self) -> Vec<T> {
        self.0.lock().expect("not poisoned").clone()
    }
}
