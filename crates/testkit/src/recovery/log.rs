//! Log of events in memory that several nodes share.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytestring::ByteString;
use roomcast_core::{Event, EventLog, EventLogError, LogQuery, MissedEvents, Room, Target};
use tokio::sync::watch;

/// Log of the events of a namespace in memory, which several nodes of one test share.
///
/// Offsets have the form of those in a Redis stream. Waiting uses tokio's clock.
pub struct MemoryEventLog {
    state: Mutex<State>,
    appended: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    /// Number of the last entry.
    last: u64,
    fault: LogFault,
}

#[derive(Clone)]
struct Entry {
    number: u64,
    target: Target,
    event: Event,
}

/// Behavior of a [`MemoryEventLog`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFault {
    /// Answers at once.
    #[default]
    None,
    /// Answers after this time with what it found before it.
    Slow(Duration),
    /// Each question fails.
    Failing,
}

/// Node that reads a [`MemoryEventLog`].
pub struct LogReader {
    log: Arc<MemoryEventLog>,
    name: String,
    /// Number up to which all entries were delivered.
    position: watch::Sender<u64>,
}

impl Default for MemoryEventLog {
    fn default() -> Self {
        Self { state: Mutex::default(), appended: watch::Sender::new(0) }
    }
}

impl MemoryEventLog {
    /// Creates an empty log.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Sets the behavior of later questions.
    pub fn set_fault(&self, fault: LogFault) {
        self.state().fault = fault;
    }

    /// Appends an event; returns its offset.
    pub fn append(&self, target: &Target, event: &Event) -> ByteString {
        let mut state = self.state();
        state.last += 1;
        let (number, offset) = (state.last, offset(state.last));
        let event = Event { offset: Some(offset.clone()), ..event.clone() };
        state.entries.push_back(Entry { number, target: target.clone(), event });
        drop(state);
        self.appended.send_replace(number);
        offset
    }

    /// Drops all but the last entries.
    pub fn trim(&self, left: usize) {
        let mut state = self.state();
        let excess = state.entries.len().saturating_sub(left);
        state.entries.drain(..excess);
    }

    /// Creates a reader that begins after the last entry.
    pub fn reader(self: &Arc<Self>, name: &str) -> Arc<LogReader> {
        let position = watch::Sender::new(self.state().last);
        Arc::new(LogReader { log: self.clone(), name: name.to_owned(), position })
    }

    async fn answer(&self) -> Result<(), EventLogError> {
        let fault = self.state().fault;
        match fault {
            LogFault::None => Ok(()),
            LogFault::Slow(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            LogFault::Failing => Err(EventLogError::Unavailable("fails".to_owned())),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogReader {
    /// Passes the next entry to `host`, and then advances the position; returns `false` if there is none.
    ///
    /// Calls must not be concurrent.
    pub fn deliver(&self, host: impl FnOnce(&Target, &Event)) -> bool {
        let after = *self.position.borrow();
        let entry = self.log.state().entries.iter().find(|entry| entry.number > after).cloned();
        let Some(Entry { number, target, event }) = entry else { return false };
        host(&target, &event);
        self.position.send_replace(number);
        true
    }

    /// Waits until there is an entry to deliver.
    pub async fn wait(&self) {
        let mut appended = self.log.appended.subscribe();
        let after = *self.position.borrow();
        let _ = appended.wait_for(|last| *last > after).await;
    }
}

#[async_trait]
impl EventLog for LogReader {
    fn position(&self) -> Option<ByteString> {
        Some(offset(*self.position.borrow()))
    }

    async fn reached(&self, offset: &str) -> Result<(), EventLogError> {
        let number = parse(offset)?;
        let mut position = self.position.subscribe();
        let _ = position.wait_for(|position| *position >= number).await;
        Ok(())
    }

    /// Offsets of events that the log does not have begin with `p`.
    fn is_provisional(&self, offset: &str) -> bool {
        offset.starts_with('p')
    }

    async fn latest(&self) -> Result<ByteString, EventLogError> {
        let last = self.log.state().last;
        self.log.answer().await?;
        Ok(offset(last))
    }

    async fn missed(&self, query: &LogQuery<'_>) -> Result<MissedEvents, EventLogError> {
        let after = parse(query.after)?;
        let found = {
            let state = self.log.state();
            let first = state.entries.front().map_or(state.last + 1, |entry| entry.number);
            if after > state.last {
                return Err(EventLogError::InvalidOffset);
            }
            if after + 1 < first {
                return Err(EventLogError::Trimmed);
            }
            let missed =
                state.entries.iter().filter(|entry| entry.number > after && is_for(entry, query.rooms));
            let events: Vec<Event> = missed.map(|entry| entry.event.clone()).collect();
            MissedEvents { events, until: offset(state.last) }
        };
        self.log.answer().await?;
        let bytes = found.events.iter().map(|event| event.name.len() + event.args.byte_len()).sum::<usize>();
        if bytes > query.max_bytes { Err(EventLogError::TooLarge) } else { Ok(found) }
    }
}

fn is_for(Entry { target, .. }: &Entry, rooms: &[Room]) -> bool {
    let is_in = |named: &[Room]| named.iter().any(|room| rooms.contains(room));
    (target.rooms.is_empty() || is_in(&target.rooms)) && !is_in(&target.except)
}

fn offset(number: u64) -> ByteString {
    format!("{number}-0").into()
}

fn parse(offset: &str) -> Result<u64, EventLogError> {
    let number = offset.strip_suffix("-0").and_then(|number| number.parse().ok());
    number.ok_or(EventLogError::InvalidOffset)
}

impl fmt::Debug for MemoryEventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryEventLog").field("last", &self.state().last).finish_non_exhaustive()
    }
}

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReader").field("name", &self.name).finish_non_exhaustive()
    }
}
