//! Handlers that handle an event once, although its client sends it again.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytestring::ByteString;
use roomcast_core::{Args, ArgsError};
use serde_json::Value;

use crate::app::handler::call::Handler;
use crate::app::handler::handled::{self, EventId};
use crate::app::handler::signature::Signature;
use crate::app::model::ack::Ack;
use crate::app::model::event_input::HandlerInput;
use crate::app::model::handler_future::HandlerFuture;
use crate::app::model::socket::Socket;
use crate::util::clock;

/// Makes a handler handle each event once, although its client may send it again.
///
/// Socket.IO clients with the option `retries` send an event again until it is acknowledged. The first argument of the
/// event is its id, a text or an integer that the client chooses once for all attempts. While the handler runs, a
/// repeat waits for its answer; afterwards the same answer is sent again, and the handler does not run. The handler
/// gets the id like every other argument, and must answer, by a return value or an [`Ack`](crate::Ack).
///
/// ```
/// use std::time::Duration;
///
/// use roomcast_server::handler::deduplicated;
/// use roomcast_server::{Io, Value};
///
/// # async fn store(_: Value) -> i64 { 1 }
/// let io = Io::new();
/// // socket.emit("order", crypto.randomUUID(), { item: 7 })
/// io.on("order", deduplicated(async |_id: String, order: Value| store(order).await));
/// ```
///
/// # Guarantees
///
/// An id is known for the [window](Deduplicated::window), 10 minutes by default, after the handler has completed. The
/// window must exceed the time in which clients repeat an event, which for `socket.io-client` is `ackTimeout` times
/// (`retries` + 1), and the time that they are disconnected meanwhile.
///
/// Ids are compared among the events of one [scope](Deduplicated::scope), by default those of one socket id. It is kept
/// by [recovery](crate::Config::recovery). A client without recovery that reconnects has a new id, so an event that it
/// sent before is handled again; use the id of the user as the scope there.
///
/// An event is handled again if
///
/// - the handler failed, panicked, or was stopped before it answered,
/// - the process that handled it has ended, or the client repeats it on another server, unless it is
///   [recovered](#on-other-servers) there,
/// - more than 100 later events of its scope, or 10,000 of all scopes, were handled, or their answers exceed 16 MiB.
///
/// The reverse, an event that is not handled although it was acknowledged, happens only if an `on_error` handler
/// answers for the failed one. Work that must not be done twice even then, such as a payment, has to store the id in
/// the transaction that does it.
///
/// # On other servers
///
/// If servers share a log of events and a store of sessions, as with `cluster::redis_sessions`, the ids and answers are
/// stored with the session, for the window by the clock of the server. So an event that was handled on a server that was
/// killed, and that its client repeats after its recovery on another one, is not handled again. It is if
///
/// - it was handled less than [`StoreConfig::interval`](crate::recovery::StoreConfig::interval), 100 ms by default, and
///   the time of a write before its server was killed or the client was recovered elsewhere, or its handler still ran,
/// - the client was not recovered, but began a new session, or Redis has lost the last state of its session,
/// - 16 later events of the client were handled, of all deduplicated handlers together,
/// - its answer is binary, or longer than 1,024 bytes as JSON,
/// - the event has another name there, or its handler another scope.
///
/// # Errors
///
/// An event whose first argument is not an id, or whose id is longer than 200 bytes, does not match the handler:
/// [`on_error`](crate::Io::on_error) receives the failure.
pub fn deduplicated<H>(handler: H) -> Deduplicated<H> {
    let table = Table { state: Mutex::default(), window: Duration::from_secs(600) };
    Deduplicated { handler, table: Arc::new(table), scope: Arc::new(|socket| socket.id().as_str().into()) }
}

/// Handler that handles each event once; returned by [`deduplicated`].
///
/// Clones share the known ids.
#[derive(Clone)]
pub struct Deduplicated<H> {
    handler: H,
    table: Arc<Table>,
    scope: Arc<dyn Fn(&Socket) -> String + Send + Sync>,
}

/// Marker for [`Deduplicated`] handlers.
#[derive(Debug)]
pub struct Once<M>(PhantomData<M>);

impl<H> Deduplicated<H> {
    /// Sets the time for which the id of a handled event is known. Default: 10 minutes.
    ///
    /// Ids known so far are forgotten.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.table = Arc::new(Table { state: Mutex::default(), window });
        self
    }

    /// Sets the scope of ids: events of the same scope with the same id are the same event. Default: the socket id.
    ///
    /// A scope that clients can choose lets them obtain the answers of others.
    ///
    /// ```
    /// use roomcast_server::handler::deduplicated;
    /// use roomcast_server::{Io, Socket, Value};
    ///
    /// let user = |socket: &Socket| socket.data::<String>().ok().flatten().unwrap_or_default();
    /// let io = Io::new();
    /// io.on("order", deduplicated(async |id: u64, _order: Value| id).scope(user));
    /// ```
    #[must_use]
    pub fn scope(mut self, scope: impl Fn(&Socket) -> String + Send + Sync + 'static) -> Self {
        self.scope = Arc::new(scope);
        self
    }
}

#[diagnostic::do_not_recommend]
impl<H: Handler<M>, M> Handler<Once<M>> for Deduplicated<H> {
    fn call(&self, event: &mut HandlerInput<'_>) -> Result<HandlerFuture, ArgsError> {
        let id = event.args.reader().peek::<Value>().and_then(id)?;
        let key = Key { scope: (self.scope)(event.socket).into(), id };
        let has_shared = event.socket.has_shared_session();
        let shared = has_shared.then(|| Shared { socket: event.socket.clone(), name: event.name.clone() });
        let Some(run) = self.table.begin(key, &mut event.ack, shared, clock::now()) else {
            return Ok(Box::pin(std::future::ready(Ok(()))));
        };
        if let Some(answer) = run.handled_elsewhere() {
            run.complete(answer.as_ref());
            if let Some((ack, answer)) = event.ack.take().zip(answer) {
                // The client may have disconnected again.
                let _ = ack.send(answer);
            }
            return Ok(Box::pin(std::future::ready(Ok(()))));
        }
        if let Some(ack) = &mut event.ack {
            let run = run.clone();
            ack.observe(Box::new(move |answer| run.complete(Some(answer))));
        }
        let handled = self.handler.call(event)?;
        Ok(Box::pin(async move {
            let outcome = handled.await;
            run.is_handled.store(outcome.is_ok(), Ordering::Relaxed);
            outcome
        }))
    }

    fn signature(&self) -> Signature {
        self.handler.signature()
    }
}

impl<H> fmt::Debug for Deduplicated<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deduplicated").field("window", &self.table.window).finish_non_exhaustive()
    }
}

/// Returns the id in the form of a key: `7` and `"7"` are different ids.
fn id(value: Value) -> Result<ByteString, ArgsError> {
    let id = match value {
        Value::String(text) if text.len() <= MAX_ID => return Ok(format!("\"{text}\"").into()),
        Value::Number(number) if number.is_i64() || number.is_u64() => return Ok(number.to_string().into()),
        Value::String(_) => format!("an id of at most {MAX_ID} bytes"),
        _ => "an id, a text or an integer".to_owned(),
    };
    Err(ArgsError::Mismatch { position: 1, reason: format!("expected {id}") })
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    scope: ByteString,
    id: ByteString,
}

impl Key {
    /// Returns the id in a list of handled events.
    fn in_list<'a>(&'a self, name: &'a str) -> EventId<'a> {
        EventId { name, scope: &self.scope, id: &self.id }
    }
}

/// Ids of running and completed events.
struct Table {
    state: Mutex<State>,
    window: Duration,
}

#[derive(Default)]
struct State {
    events: HashMap<Key, Entry>,
    /// Completed events in order, with the time at which they expire.
    completed: BTreeMap<u64, (Instant, Key)>,
    /// Completed events of each scope, in order.
    scopes: HashMap<ByteString, VecDeque<u64>>,
    /// Number of events completed so far.
    last: u64,
    /// Bytes of the answers.
    bytes: usize,
}

enum Entry {
    /// Holds the acknowledgement of the last repeat: clients ignore answers to earlier attempts.
    Running(Option<Ack>),
    Completed(Option<Args>),
}

impl Table {
    /// Begins to handle an event; `None` if it is a repeat, whose acknowledgement is taken.
    fn begin(
        self: &Arc<Self>,
        key: Key,
        ack: &mut Option<Ack>,
        shared: Option<Shared>,
        now: Instant,
    ) -> Option<Arc<Run>> {
        let mut state = self.state();
        state.expire(now);
        match state.events.get_mut(&key) {
            None => {
                state.events.insert(key.clone(), Entry::Running(None));
                Some(Arc::new(Run { table: self.clone(), key, shared, is_handled: AtomicBool::new(false) }))
            }
            Some(Entry::Running(waiting)) => {
                let earlier = ack.take().and_then(|ack| waiting.replace(ack));
                drop(state);
                drop(earlier);
                None
            }
            Some(Entry::Completed(answer)) => {
                let repeated = ack.take().zip(answer.clone());
                drop(state);
                if let Some((ack, answer)) = repeated {
                    // The client may have disconnected again.
                    let _ = ack.send(answer);
                }
                None
            }
        }
    }

    fn is_running(&self, key: &Key) -> bool {
        matches!(self.state().events.get(key), Some(Entry::Running(_)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Marks a running event as completed; returns the acknowledgement of a repeat that waits.
    fn complete(&mut self, key: &Key, answer: Option<&Args>, expires: Instant) -> Option<Ack> {
        let Some(entry @ Entry::Running(_)) = self.events.get_mut(key) else { return None };
        let before = std::mem::replace(entry, Entry::Completed(answer.cloned()));
        self.last += 1;
        self.bytes += answer.map_or(0, Args::byte_len);
        self.completed.insert(self.last, (expires, key.clone()));
        let scope = self.scopes.entry(key.scope.clone()).or_default();
        scope.push_back(self.last);
        if scope.len() > MAX_IN_SCOPE
            && let Some(first) = scope.front().copied()
        {
            self.forget(first);
        }
        while self.completed.len() > MAX_COMPLETED || self.bytes > MAX_BYTES {
            let Some((first, _)) = self.completed.first_key_value() else { break };
            self.forget(*first);
        }
        match before {
            Entry::Running(waiting) => waiting,
            Entry::Completed(_) => None,
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((number, (expires, _))) = self.completed.first_key_value() {
            if *expires > now {
                break;
            }
            self.forget(*number);
        }
    }

    /// Forgets a completed event.
    fn forget(&mut self, number: u64) {
        let Some((_, key)) = self.completed.remove(&number) else { return };
        if let Some(Entry::Completed(Some(answer))) = self.events.remove(&key) {
            self.bytes -= answer.byte_len();
        }
        if let Some(scope) = self.scopes.get_mut(&key.scope) {
            scope.retain(|known| *known != number);
            if scope.is_empty() {
                self.scopes.remove(&key.scope);
            }
        }
    }
}

/// Event that is handled, until its handler has completed and its acknowledgement was sent or dropped.
struct Run {
    table: Arc<Table>,
    key: Key,
    shared: Option<Shared>,
    /// Whether the handler has completed without an error.
    is_handled: AtomicBool,
}

/// Client whose session other servers may recover.
struct Shared {
    socket: Socket,
    /// Name of the event.
    name: ByteString,
}

impl Run {
    /// Returns the answer if another server, from which the client was recovered, has handled the event.
    fn handled_elsewhere(&self) -> Option<Option<Args>> {
        let Shared { socket, name } = self.shared.as_ref()?;
        let list = socket.user_data().handled_events();
        if list.is_empty() { None } else { handled::find(&list, self.key.in_list(name), clock::wall()) }
    }

    fn complete(&self, answer: Option<&Args>) {
        if let Some(Shared { socket, name }) = &self.shared
            && self.table.is_running(&self.key)
        {
            let event = self.key.in_list(name);
            socket.update_handled_events(|list| {
                handled::add(list, event, answer, clock::wall(), self.table.window)
            });
        }
        let expires = clock::after(clock::now(), self.table.window);
        let waiting = self.table.state().complete(&self.key, answer, expires);
        if let (Some(ack), Some(answer)) = (waiting, answer) {
            // The client may have disconnected again.
            let _ = ack.send(answer.clone());
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if *self.is_handled.get_mut() {
            return self.complete(None);
        }
        let mut state = self.table.state();
        if let Some(Entry::Running(_)) = state.events.get(&self.key) {
            let removed = state.events.remove(&self.key);
            drop(state);
            drop(removed);
        }
    }
}

/// Maximum length of an id in bytes.
const MAX_ID: usize = 200;
/// Maximum number of completed events of one scope. A client repeats one event at a time.
const MAX_IN_SCOPE: usize = 100;
/// Maximum number of completed events.
const MAX_COMPLETED: usize = 10_000;
/// Maximum number of bytes of answers.
const MAX_BYTES: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn key(scope: &str, id: usize) -> Key {
        Key { scope: scope.into(), id: id.to_string().into() }
    }

    fn table() -> Arc<Table> {
        Arc::new(Table { state: Mutex::default(), window: WINDOW })
    }

    fn handle(table: &Arc<Table>, key: Key, answer: &str) -> bool {
        let Some(run) = table.begin(key, &mut None, None, clock::now()) else { return false };
        run.complete(Some(&Args::from_text(answer.into())));
        true
    }

    #[tokio::test(start_paused = true)]
    async fn an_id_expires_after_its_window() {
        let table = table();
        assert!(handle(&table, key("a", 1), "x"));
        tokio::time::advance(WINDOW - Duration::from_millis(1)).await;
        assert!(!handle(&table, key("a", 1), "x"));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(handle(&table, key("a", 1), "x"));
    }

    #[tokio::test(start_paused = true)]
    async fn ids_are_bounded_by_scope_and_in_total() {
        let table = table();
        assert!(handle(&table, key("quiet", 0), "x"));
        for id in 0..5 * MAX_COMPLETED {
            assert!(handle(&table, key("flood", id), "x"));
        }
        assert!(!handle(&table, key("quiet", 0), "x"), "a scope does not displace another");
        assert_eq!(table.state().completed.len(), MAX_IN_SCOPE + 1);
        for scope in 0..MAX_COMPLETED {
            assert!(handle(&table, key(&scope.to_string(), 0), "x"));
        }
        let state = table.state();
        assert_eq!((state.completed.len(), state.events.len()), (MAX_COMPLETED, MAX_COMPLETED));
        assert!(state.scopes.len() <= MAX_COMPLETED);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_bounded_in_bytes() {
        let table = table();
        let answer = "x".repeat(MAX_BYTES / 10);
        for id in 0..50 {
            assert!(handle(&table, key("a", id), &answer));
            assert!(table.state().bytes <= MAX_BYTES);
        }
        assert!(!handle(&table, key("a", 49), "x") && handle(&table, key("a", 0), "x"));
        tokio::time::advance(WINDOW).await;
        table.state().expire(clock::now());
        let state = table.state();
        assert_eq!((state.bytes, state.events.len(), state.scopes.len()), (0, 0, 0));
    }

    #[test]
    fn ids_are_texts_and_integers() {
        assert_eq!(id(Value::from("7")).unwrap(), "\"7\"");
        assert_eq!(id(Value::from(7)).unwrap(), "7");
        assert_eq!(id(Value::from(-7)).unwrap(), "-7");
        for value in
            [Value::Null, Value::from(1.5), Value::from(vec![1]), Value::from("x".repeat(MAX_ID + 1))]
        {
            assert!(id(value).is_err());
        }
    }
}
