//! Servers of every setting, the matrix of cases, and settings for flow control.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use roomcast_server::socket::{CloseReason, SocketId};
use roomcast_server::{Bytes, Config, Io, Server, Socket};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::client::{Client, Dial, Link, Wire, hear_all};

/// Settings of every case: no pings while it runs.
pub(crate) fn config() -> Config {
    Config::new().timeouts(|timeouts| timeouts.ping_interval(NEVER).ping_timeout(NEVER))
}

/// Settings that close a client soon after it stops reading.
pub(crate) fn strict() -> Config {
    config()
        .limits(|limits| limits.outbox_limit(64 * 1024))
        .timeouts(|timeouts| timeouts.stall_timeout(STALL_TIMEOUT))
}

/// Settings that close no client for not reading while a case runs.
pub(crate) fn patient() -> Config {
    config().timeouts(|timeouts| timeouts.stall_timeout(NEVER))
}

/// Where a server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    OneThread,
    /// Two threads, each with its own runtime.
    TwoThreads,
    /// In another HTTP server, on a runtime with two workers.
    Mounted,
}

/// Combination of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Combination {
    pub(crate) setting: Setting,
    pub(crate) wire: Wire,
    pub(crate) tls: bool,
    /// Factor applied to the load of the case.
    pub(crate) factor: usize,
}

impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, wire, tls, factor } = self;
        let tls = if *tls { " over TLS" } else { "" };
        write!(f, "{setting:?}, {wire:?}{tls}, {factor}x")
    }
}

const SETTINGS: [Setting; 3] = [Setting::OneThread, Setting::TwoThreads, Setting::Mounted];
const WIRES: [Wire; 3] = [Wire::Plain, Wire::SocketIo, Wire::Polling];

pub(crate) fn combination(setting: Setting, wire: Wire) -> Combination {
    Combination { setting, wire, tls: false, factor: 1 }
}

/// Returns all combinations with `FLOW_MATRIX=full`, otherwise a selection that covers each of them.
///
/// The selection has every pair of setting and transport, TLS once for each, four times the load on a diagonal, and
/// sixteen times the load for `largest` only.
pub(crate) fn matrix(largest: Option<Combination>) -> Vec<Combination> {
    let mut all = Vec::new();
    for (row, setting) in SETTINGS.into_iter().enumerate() {
        for (column, wire) in WIRES.into_iter().enumerate() {
            let full = std::env::var_os("FLOW_MATRIX").is_some_and(|value| value == "full");
            for tls in [false, true] {
                for factor in [1, 4, 16] {
                    let chosen = match (tls, factor) {
                        (_, 16) => false,
                        (false, 4) => (row + 1) % 3 == column,
                        (false, _) => true,
                        (true, _) => factor == 1 && row == column,
                    };
                    let combination = Combination { setting, wire, tls, factor };
                    let largest =
                        largest.is_some_and(|largest| Combination { factor: 16, ..largest } == combination);
                    let sized = factor < 16 || largest || full;
                    if (full || chosen || largest) && sized {
                        all.push(combination);
                    }
                }
            }
        }
    }
    // When mounted, the other server does TLS; otherwise TLS is a feature of ours.
    all.retain(|combination| {
        cfg!(feature = "tls") || !combination.tls || combination.setting == Setting::Mounted
    });
    all
}

/// Returns every pair of setting and transport, and TLS once for each, with the base load.
pub(crate) fn single() -> Vec<Combination> {
    let mut all = matrix(None);
    all.retain(|combination| combination.factor == 1);
    all
}

/// Returns each setting with a different transport.
pub(crate) fn diagonal() -> Vec<Combination> {
    let pairs = SETTINGS.into_iter().zip([Wire::SocketIo, Wire::Plain, Wire::Polling]);
    pairs.map(|(setting, wire)| combination(setting, wire)).collect()
}

/// Returns the diagonal, plus four times the load on two threads.
pub(crate) fn diagonal_and_more() -> Vec<Combination> {
    let mut all = diagonal();
    all.push(Combination { factor: 4, ..combination(Setting::TwoThreads, Wire::SocketIo) });
    all
}

/// Keeps the combinations that use one of these transports.
pub(crate) fn only(mut all: Vec<Combination>, wires: &[Wire]) -> Vec<Combination> {
    all.retain(|combination| wires.contains(&combination.wire));
    all
}

/// Runs a case with all combinations concurrently, for cases that mostly wait.
#[track_caller]
pub(crate) fn side_by_side(
    combinations: Vec<Combination>,
    case: impl AsyncFn(Combination) -> Result<(), String> + Sync,
) {
    let tried = combinations.len();
    let failures: Vec<_> = std::thread::scope(|scope| {
        let case = &case;
        let threads: Vec<_> = combinations
            .into_iter()
            .map(|combination| scope.spawn(move || attempt(combination, case)))
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().expect("panics are caught").err()).collect()
    });
    fail_with(&failures, tried, tried);
}

/// Runs a case with each combination in sequence and reports all failures.
///
/// A hanging case ends the sequence, so that the test ends in time.
#[track_caller]
pub(crate) fn each(combinations: Vec<Combination>, case: impl AsyncFn(Combination) -> Result<(), String>) {
    let (total, mut tried, mut failures) = (combinations.len(), 0, Vec::new());
    for combination in combinations {
        let began = Instant::now();
        failures.extend(attempt(combination, &case).err());
        tried += 1;
        if began.elapsed() >= GUARD {
            break;
        }
    }
    fail_with(&failures, tried, total);
}

fn attempt(
    combination: Combination,
    case: &impl AsyncFn(Combination) -> Result<(), String>,
) -> Result<(), String> {
    let began = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        run(async {
            let bounded = tokio::time::timeout(GUARD * 2, case(combination));
            bounded.await.unwrap_or_else(|_| Err("hang: the case does not end".into()))
        })
    }));
    println!("{combination}: {:?}", began.elapsed());
    let outcome = outcome.unwrap_or_else(|panic| Err(format!("panicked: {}", words(&*panic))));
    outcome.map_err(|failure| format!("{combination}: {failure}"))
}

#[track_caller]
fn fail_with(failures: &[String], tried: usize, total: usize) {
    let failed = failures.len();
    assert!(failures.is_empty(), "{failed} of {tried} failed ({total} to try):\n{}", failures.join("\n"));
}

/// Runs a case on its own runtime, separate from the server's.
pub(crate) fn run<T>(case: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(case)
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// Memory and rates are process-wide, so some cases run alone.
static STAGE: RwLock<()> = RwLock::new(());

enum Turn {
    Shared { _turn: RwLockReadGuard<'static, ()> },
    Alone { _turn: RwLockWriteGuard<'static, ()> },
}

/// Server and its events; dropping it ends the server.
pub(crate) struct Scene {
    pub(crate) io: Io,
    dial: Dial,
    setting: Setting,
    arrivals: mpsc::Receiver<(Socket, ThreadId)>,
    departures: mpsc::Receiver<(SocketId, CloseReason)>,
    _stop: oneshot::Sender<()>,
    runtime: Option<Runtime>,
    _turn: Turn,
}

impl Scene {
    /// Serves an application; every client is in [`ROOM`].
    pub(crate) fn open(combination: Combination, config: Config, register: impl FnOnce(&Io)) -> Self {
        let turn = STAGE.read().unwrap_or_else(PoisonError::into_inner);
        Self::set(Turn::Shared { _turn: turn }, combination, config, register)
    }

    /// Serves an application while no other case runs.
    pub(crate) fn open_alone(combination: Combination, config: Config, register: impl FnOnce(&Io)) -> Self {
        let turn = STAGE.write().unwrap_or_else(PoisonError::into_inner);
        Self::set(Turn::Alone { _turn: turn }, combination, config, register)
    }

    fn set(turn: Turn, combination: Combination, config: Config, register: impl FnOnce(&Io)) -> Self {
        let io = Io::builder().config(config).build();
        let (arrived, arrivals) = mpsc::channel(MANY);
        let (departed, departures) = mpsc::channel(MANY);
        io.on_connect(move |socket: Socket| {
            socket.join(ROOM);
            arrived.try_send((socket, std::thread::current().id())).expect("fewer clients");
            async {}
        });
        io.on_disconnect(move |socket: Socket, reason: CloseReason| {
            // The scene may already have ended.
            let _ = departed.try_send((socket.id().clone(), reason));
            async {}
        });
        register(&io);
        let (stop, stopped) = oneshot::channel();
        let (address, runtime) = serve(&io, combination, stopped);
        let tls = combination.tls.then(trusting);
        let dial = Dial { address, tls };
        let setting = combination.setting;
        Self { io, dial, setting, arrivals, departures, _stop: stop, runtime, _turn: turn }
    }

    pub(crate) async fn connect(&mut self, wire: Wire) -> Client {
        self.connect_with(wire, None, "").await.0
    }

    /// Connects a client with a small kernel buffer.
    pub(crate) async fn connect_narrow(&mut self, wire: Wire) -> Client {
        self.connect_with(wire, Some(NARROW), "").await.0
    }

    /// Reconnects a client; also returns the messages received before the welcome.
    pub(crate) async fn connect_again(&mut self, wire: Wire, auth: &str) -> (Client, Vec<Bytes>) {
        self.connect_with(wire, None, auth).await
    }

    async fn connect_with(
        &mut self,
        wire: Wire,
        receive_buffer: Option<u32>,
        auth: &str,
    ) -> (Client, Vec<Bytes>) {
        let opened = tokio::time::timeout(GUARD, Link::open(&self.dial, wire, receive_buffer, auth));
        let link = opened.await.expect("the client connects");
        let arrival = tokio::time::timeout(GUARD, self.arrivals.recv()).await;
        let (socket, thread) = arrival.expect("the client connects").expect("the server runs");
        let Link { input, output, welcome, missed } = link;
        (Client { input, output, welcome, socket, thread }, missed)
    }

    /// Connects at least this many clients, and more if needed for each server thread to have one.
    pub(crate) async fn connect_all(&mut self, wire: Wire, count: usize) -> Vec<Client> {
        let mut clients: Vec<Client> = Vec::new();
        while clients.len() < count
            || self.setting == Setting::TwoThreads
                && clients.iter().all(|client| client.thread == clients[0].thread)
        {
            assert!(clients.len() < MANY, "all clients are on one thread");
            clients.push(self.connect(wire).await);
        }
        clients
    }

    /// Receives `count` messages on all clients and checks that none is duplicated.
    pub(crate) async fn hear(
        &mut self,
        clients: &mut [Client],
        count: usize,
        expected: impl Fn(Wire, usize) -> Vec<u8>,
    ) -> Result<(), String> {
        let inputs = clients.iter_mut().map(|client| &mut client.input);
        let heard = hear_all(inputs.collect(), count, expected).await;
        self.explain(heard)?;
        self.nothing_follows(clients).await
    }

    /// Checks that no further messages arrive.
    pub(crate) async fn nothing_follows(&mut self, clients: &mut [Client]) -> Result<(), String> {
        self.io.emit("end", ()).map_err(|error| error.to_string())?;
        let inputs = clients.iter_mut().map(|client| &mut client.input);
        let heard = hear_all(inputs.collect(), 1, |_, _| br#"["end"]"#.to_vec()).await;
        self.explain(heard)
    }

    /// Returns the next client that left, and its close reason.
    pub(crate) async fn departure(&mut self) -> Result<(SocketId, CloseReason), String> {
        let departure = tokio::time::timeout(GUARD, self.departures.recv()).await;
        departure.ok().flatten().ok_or_else(|| "hang: no client was closed".into())
    }

    /// Returns the clients that have left so far, and their close reasons.
    pub(crate) fn departed(&mut self) -> Vec<(SocketId, CloseReason)> {
        std::iter::from_fn(|| self.departures.try_recv().ok()).collect()
    }

    /// Checks that no client has left so far.
    pub(crate) fn all_stay(&mut self) -> Result<(), String> {
        match self.departures.try_recv() {
            Err(_) => Ok(()),
            Ok((_, reason)) => {
                let failed = Err(format!("a client left ({reason:?}) that should stay"));
                self.explain(failed)
            }
        }
    }

    /// Adds the close reasons of clients that left to a failure.
    pub(crate) fn explain(&mut self, outcome: Result<(), String>) -> Result<(), String> {
        outcome.map_err(|failure| {
            let mut reasons: HashMap<&str, usize> = HashMap::new();
            while let Ok((_, reason)) = self.departures.try_recv() {
                *reasons.entry(reason.as_str()).or_default() += 1;
            }
            let read = self.io.metrics().messages_received();
            format!("{failure}; the server has read {read} messages; clients that left: {reasons:?}")
        })
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.io.close();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Serves as the combination says until `stopped`.
fn serve(io: &Io, combination: Combination, stopped: oneshot::Receiver<()>) -> (SocketAddr, Option<Runtime>) {
    if combination.setting == Setting::Mounted {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let address = mount(io, combination.tls, &runtime);
        return (address, Some(runtime));
    }
    let server = Server::new(io.clone());
    #[cfg(feature = "tls")]
    let server = match combination.tls {
        true => server.tls(roomcast_server::server::Tls::from_pem(CERTIFICATE, KEY).expect("a matching key")),
        false => server,
    };
    let bound = server.bind("127.0.0.1:0").expect("a free port");
    let address = bound.address();
    let threads = if combination.setting == Setting::TwoThreads { 2 } else { 1 };
    std::thread::spawn(move || bound.run_with_shutdown(threads, async { _ = stopped.await }));
    (address, None)
}

/// Mounts in axum or, with TLS, in hyper on a stream that is no socket.
fn mount(io: &Io, tls: bool, runtime: &Runtime) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("an open socket");
    let address = listener.local_addr().expect("an address");
    let listener = {
        let _within = runtime.enter();
        tokio::net::TcpListener::from_std(listener).expect("a runtime")
    };
    if !tls {
        let routes = axum::Router::new().layer(io.layer());
        runtime.spawn(axum::serve(listener, routes).into_future());
        return address;
    }
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(KEY).expect("PEM");
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.expect("a matching key")));
    let service = io.service();
    runtime.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let (acceptor, service) = (acceptor.clone(), service.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper_util::service::TowerToHyperService::new(service);
                let stream = hyper_util::rt::TokioIo::new(stream);
                let connection = hyper::server::conn::http1::Builder::new().serve_connection(stream, service);
                let _ = connection.with_upgrades().await;
            });
        }
    });
    address
}

/// Returns client settings that trust the test certificate.
fn trusting() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CERTIFICATE).expect("PEM")).expect("a certificate");
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// Waits for a condition that sends no notification.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), String> {
    let began = Instant::now();
    while !holds() {
        if began.elapsed() > GUARD {
            return Err(format!("hang: condition not met: {what}"));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// Waits until a count reaches `least` and then stays constant for a while.
///
/// If the count only seems constant on a busy machine, the case continues early and checks less.
pub(crate) async fn until_it_stands(what: &str, least: u64, count: impl Fn() -> u64) -> Result<(), String> {
    let (began, mut seen, mut since) = (Instant::now(), 0, Instant::now());
    while seen < least || since.elapsed() < Duration::from_millis(100) {
        if began.elapsed() > GUARD {
            return Err(format!("hang: condition not met: {what}"));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        let now = count();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
    Ok(())
}

/// Applies a timeout to a future that must not hang.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(GUARD, future).await.map_err(|_| format!("hang: {what}"))
}

/// Longer than any step here takes.
pub(crate) const GUARD: Duration = Duration::from_secs(30);
/// Longer than any case.
pub(crate) const NEVER: Duration = Duration::from_secs(300);
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(1);
/// Room of all clients.
pub(crate) const ROOM: &str = "room";
/// Bytes of the receive buffer of a client that is hard to write to.
pub(crate) const NARROW: u32 = 4096;
/// More clients than any case has.
const MANY: usize = 4096;
const CERTIFICATE: &[u8] = include_bytes!("../certificates/one.crt");
const KEY: &[u8] = include_bytes!("../certificates/one.key");
