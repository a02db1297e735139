//! Recorder for acknowledgements.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roomcast_core::{AckId, AckRequest, AnswerSink, Args, SocketId};

/// Collects acknowledgements and logs them.
#[derive(Debug, Default)]
pub struct AnswerLog(Mutex<Log>);

#[derive(Debug, Default)]
struct Log {
    requested: Vec<SocketId>,
    answered: Vec<(SocketId, Args)>,
    unanswered: Vec<SocketId>,
}

impl AnswerLog {
    /// Creates an ack request and the log that receives its acknowledgements.
    pub fn request(id: u64) -> (AckRequest, Arc<Self>) {
        let log = Arc::new(Self::default());
        (AckRequest { id: AckId(id), answers: log.clone() }, log)
    }

    /// Returns the sockets that received a request, sorted.
    pub fn requested(&self) -> Vec<SocketId> {
        sorted(&self.log().requested)
    }

    /// Returns the acknowledgements with their senders, in order of arrival.
    pub fn answered(&self) -> Vec<(SocketId, Args)> {
        self.log().answered.clone()
    }

    /// Returns the sockets that will not acknowledge, sorted.
    pub fn unanswered(&self) -> Vec<SocketId> {
        sorted(&self.log().unanswered)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AnswerSink for AnswerLog {
    fn requested(&self, socket: &SocketId) {
        self.log().requested.push(socket.clone());
    }

    fn answered(&self, socket: &SocketId, args: Args) {
        self.log().answered.push((socket.clone(), args));
    }

    fn unanswered(&self, socket: &SocketId) {
        self.log().unanswered.push(socket.clone());
    }
}

fn sorted(ids: &[SocketId]) -> Vec<SocketId> {
    let mut ids = ids.to_vec();
    ids.sort();
    ids
}
