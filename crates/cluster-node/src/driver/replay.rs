//! Missed events of returning clients, read from the stream.

use std::collections::{HashMap, VecDeque};

use roomcast_core::{EventLogError, MissedEvents, Namespace};
use roomcast_node_adapter::{CodecLimits, Entries, MissedReader};
use tokio::sync::oneshot;

use super::stream::Stream;
use crate::input::MissedQuestion;

/// Questions of the server about the stream.
#[derive(Debug, Default)]
pub(super) struct Replays {
    /// Questions for missed events, by the number of their range.
    active: HashMap<u64, Replay>,
    waiting: VecDeque<Replay>,
}

/// Question for missed events.
#[derive(Debug)]
struct Replay {
    reader: MissedReader,
    /// Entries of the current range.
    count: usize,
    reply: oneshot::Sender<Result<MissedEvents, EventLogError>>,
}

impl Replays {
    pub(super) fn ask(
        &mut self,
        namespace: Namespace,
        limits: CodecLimits,
        question: MissedQuestion,
        reply: oneshot::Sender<Result<MissedEvents, EventLogError>>,
    ) {
        let MissedQuestion { after, rooms, max_bytes } = question;
        let reader = MissedReader::new(namespace, limits, after, rooms, max_bytes);
        self.waiting.push_back(Replay { reader, count: 0, reply });
    }

    /// Sends ranges for waiting questions.
    pub(super) fn begin(&mut self, stream: &mut Stream) {
        while self.active.len() < MAX_ACTIVE
            && let Some(replay) = self.waiting.pop_front()
        {
            // Its future may have been dropped.
            if !replay.reply.is_closed() {
                self.ask_range(replay, stream);
            }
        }
    }

    fn ask_range(&mut self, mut replay: Replay, stream: &mut Stream) {
        replay.count = 0;
        match stream.ask_range(replay.reader.from(), RANGE) {
            Some(token) => _ = self.active.insert(token, replay),
            None => replay.fail(),
        }
    }

    /// Handles a part of a range.
    pub(super) fn handle_range(&mut self, token: u64, entries: &Entries, is_end: bool, stream: &mut Stream) {
        let Some(mut replay) = self.active.remove(&token) else { return };
        replay.count += entries.count;
        if let Err(error) = replay.reader.handle_entries(entries) {
            let _ = replay.reply.send(Err(error));
            return;
        }
        if !is_end {
            self.active.insert(token, replay);
        } else if replay.reply.is_closed() {
            // Its future was dropped.
        } else if replay.count == RANGE {
            replay.reader.handle_range_end();
            self.ask_range(replay, stream);
        } else {
            let _ = replay.reply.send(replay.reader.finish());
        }
    }

    pub(super) fn handle_failure(&mut self, token: u64) {
        self.active.remove(&token).into_iter().for_each(Replay::fail);
    }
}

impl Replay {
    fn fail(self) {
        let _ = self.reply.send(Err(EventLogError::Unavailable("the stream cannot be read".to_owned())));
    }
}

/// Entries in one range.
const RANGE: usize = 200;
/// Ranges at the same time; each holds at most the limit of its question.
const MAX_ACTIVE: usize = 32;
