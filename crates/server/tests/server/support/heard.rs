//! What handlers tell the test

use std::fmt::Debug;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use roomcast_server::{Io, Socket};
use tokio::sync::Semaphore;

use super::PATIENCE;

/// Hears what handlers tell; handlers hold the [`Teller`]
#[derive(Debug)]
pub struct Ear<T>(Receiver<T>);

pub type Teller<T> = Sender<T>;

#[expect(clippy::disallowed_methods, reason = "handlers tell without waiting, and end with the test")]
pub fn ear<T>() -> (Teller<T>, Ear<T>) {
    let (teller, heard) = channel();
    (teller, Ear(heard))
}

/// Hears of each client in the main namespace
pub fn arrivals(io: &Io) -> Ear<Socket> {
    let (told, sockets) = ear();
    io.on_connect(move |socket: Socket| {
        let _ = told.send(socket);
        async {}
    });
    sockets
}

impl<T: Debug> Ear<T> {
    /// What is told next
    #[track_caller]
    pub fn next(&self) -> T {
        self.0.recv_timeout(PATIENCE).expect("somebody tells something")
    }

    #[track_caller]
    pub fn take(&self, count: usize) -> Vec<T> {
        (0..count).map(|_| self.next()).collect()
    }

    /// What was told so far
    pub fn all(&self) -> Vec<T> {
        self.0.try_iter().collect()
    }
}

/// Where handlers wait until the test lets them pass
#[derive(Debug, Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    pub fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets all pass, now and later
    pub fn open(&self) {
        self.0.close();
    }

    /// Lets one pass
    pub fn let_one_pass(&self) {
        self.0.add_permits(1);
    }

    pub async fn pass(&self) {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

/// What handlers write down, in the order in which they do
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
        self.0.lock().expect("nobody panics here").push(entry);
    }

    pub fn read(&self) -> Vec<T> {
        self.0.lock().expect("nobody panics here").clone()
    }
}
