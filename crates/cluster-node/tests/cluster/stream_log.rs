//! Stream of Redis in memory, without delay, and its outages.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use roomcast_core::Bytes;
use roomcast_node_adapter::{
    AppendResult, Entries, EntryId, LogCommand, LogEvent, ReadRequest, StreamEntry, StreamLog,
};

/// Stream of all connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryStream(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Entries by their id; `None` stands for an entry of another application.
    entries: VecDeque<(EntryId, Option<StreamEntry>)>,
    last: u64,
    connections: Vec<Connection>,
    is_down: bool,
    is_frozen: bool,
    /// Number of appends to refuse.
    refusals: usize,
    /// Number of appends to store before their connection is lost without the answer.
    unanswered: usize,
}

#[derive(Debug, Default)]
struct Connection {
    is_connected: bool,
    events: VecDeque<LogEvent>,
    /// Commands that a frozen server has not read.
    unread: VecDeque<LogCommand>,
    /// Request that waits for entries.
    request: Option<ReadRequest>,
    is_reader_frozen: bool,
    /// Whether it connects again once its node has handled the loss.
    reconnects: bool,
    is_dropped: bool,
    waker: Option<Waker>,
}

/// Connection of one node.
#[derive(Debug)]
pub(crate) struct MemoryLog {
    stream: MemoryStream,
    index: usize,
}

impl MemoryStream {
    pub(crate) fn connect(&self) -> MemoryLog {
        let mut state = self.lock();
        let index = state.connections.len();
        let is_connected = !state.is_down;
        let mut connection = Connection { is_connected, ..Connection::default() };
        if is_connected {
            connection.events.extend([LogEvent::Connected, LogEvent::ReaderConnected]);
        }
        state.connections.push(connection);
        MemoryLog { stream: self.clone(), index }
    }

    /// Ends all connections, and refuses new ones.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        (state.is_down, state.is_frozen) = (true, false);
        state.connections.iter_mut().for_each(Connection::disconnect);
    }

    pub(crate) fn start(&self) {
        let mut state = self.lock();
        state.is_down = false;
        for connection in state.connections.iter_mut().filter(|connection| !connection.is_dropped) {
            connection.connect();
        }
    }

    /// Stops reading commands, until [`stop`](Self::stop).
    pub(crate) fn freeze(&self) {
        self.lock().is_frozen = true;
    }

    /// Refuses the next appends.
    pub(crate) fn refuse(&self, number: usize) {
        self.lock().refusals = number;
    }

    /// Stores the next appends, and loses the connections of their nodes before the answers.
    pub(crate) fn lose_answers(&self, number: usize) {
        self.lock().unanswered = number;
    }

    /// Stops passing entries to a node, in order of connection.
    pub(crate) fn freeze_reader(&self, index: usize, is_frozen: bool) {
        let mut state = self.lock();
        state.connections[index].is_reader_frozen = is_frozen;
        state.answer_reads();
    }

    /// Removes the first entries.
    pub(crate) fn trim(&self, left: usize) {
        let mut state = self.lock();
        let surplus = state.entries.len().saturating_sub(left);
        state.entries.drain(..surplus);
    }

    /// Removes the last entries, as a failover may do.
    pub(crate) fn truncate(&self, left: usize) {
        self.lock().entries.truncate(left);
    }

    pub(crate) fn entries(&self) -> Vec<StreamEntry> {
        self.lock().entries.iter().filter_map(|(_, entry)| entry.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

impl State {
    fn store(&mut self, fields: impl IntoIterator<Item = (Bytes, Bytes)>) -> EntryId {
        self.last += 1;
        let id = EntryId::new(self.last * 1000, 0);
        self.entries.push_back((id, StreamEntry::from_fields(id, fields).unwrap()));
        id
    }

    fn after(&self, id: EntryId, count: usize) -> Entries {
        let found: Vec<_> = self.entries.iter().filter(|(found, _)| *found >= id).take(count).collect();
        let (first, last) = (found.first().map(|(id, _)| *id), found.last().map(|(id, _)| *id));
        let entries = found.iter().filter_map(|(_, entry)| entry.clone()).collect();
        Entries { count: found.len(), entries, first, last, ..Entries::default() }
    }

    fn answer_reads(&mut self) {
        for index in 0..self.connections.len() {
            let connection = &self.connections[index];
            if connection.is_reader_frozen || !connection.is_connected {
                continue;
            }
            let Some(request) = connection.request else { continue };
            let exists = |id| self.entries.iter().any(|(found, _)| *found == id);
            let event = match request {
                ReadRequest::Check { id } => LogEvent::Checked { exists: exists(id) },
                ReadRequest::Read { anchor, after } => {
                    let has_anchor = anchor.is_none_or(exists);
                    let entries = self.after(after.next(), READ_COUNT);
                    if has_anchor && entries.count == 0 {
                        continue;
                    }
                    LogEvent::Read { has_anchor, entries, is_end: true }
                }
                _ => LogEvent::Located { last: self.entries.back().map(|(id, _)| *id) },
            };
            self.connections[index].request = None;
            self.connections[index].push(event);
        }
    }

    fn apply(&mut self, index: usize, command: LogCommand) {
        let event = match command {
            LogCommand::Append { token, .. } if self.refusals > 0 => {
                self.refusals -= 1;
                LogEvent::Appended { token, result: AppendResult::Refused("OOM".into()) }
            }
            LogCommand::Append { fields, token, .. } => {
                let fields = fields.into_iter().map(|(name, value)| (bytes(name), value.into_bytes()));
                let id = self.store(fields);
                if self.unanswered > 0 {
                    self.unanswered -= 1;
                    let result = AppendResult::Lost { was_sent: true };
                    self.connections[index].push(LogEvent::Appended { token, result });
                    self.connections[index].disconnect();
                    self.connections[index].reconnects = true;
                    return self.answer_reads();
                }
                self.answer_reads();
                LogEvent::Appended { token, result: AppendResult::Stored(id) }
            }
            LogCommand::Range { from, count, token } => {
                LogEvent::Range { token, entries: self.after(from, count), is_end: true }
            }
            LogCommand::Inspect { token } => LogEvent::Inspected {
                token,
                first: self.entries.front().map(|(id, _)| *id),
                last: self.entries.back().map(|(id, _)| *id),
                len: self.entries.len() as u64,
            },
        };
        self.connections[index].push(event);
    }
}

impl Connection {
    fn push(&mut self, event: LogEvent) {
        self.events.push_back(event);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn connect(&mut self) {
        self.is_connected = true;
        self.push(LogEvent::Connected);
        self.push(LogEvent::ReaderConnected);
    }

    fn disconnect(&mut self) {
        if !self.is_connected {
            return;
        }
        self.is_connected = false;
        self.request = None;
        for command in std::mem::take(&mut self.unread) {
            self.push(match command {
                LogCommand::Append { token, .. } => {
                    LogEvent::Appended { token, result: AppendResult::Lost { was_sent: true } }
                }
                LogCommand::Range { token, .. } | LogCommand::Inspect { token } => LogEvent::Failed { token },
            });
        }
        self.push(LogEvent::Disconnected);
        self.push(LogEvent::ReaderDisconnected);
    }
}

impl MemoryLog {
    fn with<T>(&self, act: impl FnOnce(&mut State, usize) -> T) -> T {
        act(&mut self.stream.lock(), self.index)
    }
}

impl StreamLog for MemoryLog {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LogEvent> {
        self.with(|state, index| {
            let connection = &mut state.connections[index];
            if connection.events.is_empty() && std::mem::take(&mut connection.reconnects) {
                connection.connect();
            }
            match connection.events.pop_front() {
                Some(event) => Poll::Ready(event),
                None => {
                    connection.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.with(|state, index| {
            let connection = &mut state.connections[index];
            if connection.is_connected && connection.unread.len() < BUFFER {
                return Poll::Ready(());
            }
            connection.waker = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    fn send(&mut self, command: LogCommand) {
        self.with(|state, index| {
            if !state.connections[index].is_connected {
                // Lost between the poll and now.
                let event = match command {
                    LogCommand::Append { token, .. } => {
                        LogEvent::Appended { token, result: AppendResult::Lost { was_sent: false } }
                    }
                    LogCommand::Range { token, .. } | LogCommand::Inspect { token } => {
                        LogEvent::Failed { token }
                    }
                };
                state.connections[index].push(event);
            } else if state.is_frozen {
                state.connections[index].unread.push_back(command);
            } else {
                state.apply(index, command);
            }
        });
    }

    fn read(&mut self, request: ReadRequest) {
        self.with(|state, index| {
            if state.connections[index].is_connected {
                state.connections[index].request = Some(request);
                state.answer_reads();
            }
        });
    }
}

impl Drop for MemoryLog {
    fn drop(&mut self) {
        self.with(|state, index| {
            let connection = &mut state.connections[index];
            connection.disconnect();
            connection.events.clear();
            connection.is_dropped = true;
        });
    }
}

/// Entries in one answer.
const READ_COUNT: usize = 3;
/// Commands that the connection to a frozen server takes.
const BUFFER: usize = 8;
