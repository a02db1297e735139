//! A bound server: its threads and its shutdown

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, pending};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use super::accept::{accept_all, listen, listen_beside};
use super::admin;
use super::descriptors::warn_few_descriptors;
use super::drain::Drained;
use super::server::Server;
use crate::app::error::ServeError;
use crate::app::model::io::Io;
use crate::host::lifecycle::Phase;
use crate::util::clock;

impl Server {
    /// Binds to an address, such as `"127.0.0.1:3000"`; port 0 picks a free port.
    ///
    /// The address is exclusive, even among servers of this kind. `[::]` covers all addresses of the machine, including
    /// IPv4. A host name with several addresses binds to the first that is local.
    ///
    /// # Errors
    /// Returns an error if the address cannot be resolved or is in use, if the [`admin`](Self::admin) address is, or if
    /// a setting would reject every client.
    pub fn bind(self, address: impl ToSocketAddrs + fmt::Debug) -> Result<Bound, ServeError> {
        self.http.check()?;
        warn_few_descriptors(self.http.max_connections);
        let admin = match self.admin {
            Some(address) => {
                let failed = |source| ServeError::Bind { address: address.to_string(), source };
                Some(listen(address).map_err(failed)?)
            }
            None => None,
        };
        let text = format!("{address:?}");
        let failed = |source| ServeError::Bind { address: text.clone(), source };
        let mut last = std::io::Error::new(std::io::ErrorKind::InvalidInput, "address does not resolve");
        for address in address.to_socket_addrs().map_err(failed)? {
            match listen(address) {
                Ok(listener) => {
                    let address = listener.local_addr().map_err(failed)?;
                    self.io.app().budget.announce();
                    return Ok(Bound { server: self, listener, address, admin });
                }
                // On another address of the name, clients that try this address first would not reach the server.
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return Err(failed(error)),
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }
}

/// Bound server that does not accept connections yet.
#[derive(Debug)]
#[must_use]
pub struct Bound {
    server: Server,
    listener: std::net::TcpListener,
    address: SocketAddr,
    admin: Option<std::net::TcpListener>,
}

impl Bound {
    /// Returns the local address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the admin address, if [configured](Server::admin).
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.local_addr().ok()
    }

    /// Serves on the current runtime until the future is dropped.
    ///
    /// Open connections live as long as the runtime; see [`Io::drain`], which also stops accepting.
    ///
    /// # Errors
    /// Returns an error if a listener cannot be used on this runtime.
    pub async fn serve(self) -> Result<Infallible, ServeError> {
        self.serve_with_shutdown(pending()).await?;
        // The application drains the server itself.
        pending().await
    }

    /// Serves on the current runtime; shuts down by [`Drain`](crate::server::Drain) when `shutdown` resolves.
    ///
    /// The [`Io`] cannot be served again.
    ///
    /// # Errors
    /// Returns an error if a listener cannot be used on this runtime.
    pub async fn serve_with_shutdown(
        self,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Drained, ServeError> {
        let Self { server, listener, address, admin } = self;
        let bind = |source| ServeError::Bind { address: address.to_string(), source };
        let listener = TcpListener::from_std(listener).map_err(bind)?;
        let admin = admin.map(TcpListener::from_std).transpose().map_err(bind)?;
        let admin = async {
            match admin {
                Some(listener) => admin::serve(server.io.clone(), listener).await,
                None => pending().await,
            }
        };
        tokio::select! {
            drained = serve_until(&server, listener, shutdown) => {
                server.io.app().lifecycle.advance(Phase::Over);
                Ok(drained)
            }
            () = admin => Err(ServeError::Thread(std::io::Error::other("admin listener ended"))),
        }
    }

    /// Serves on this many dedicated threads, each with its own runtime and listener; blocks.
    ///
    /// A client stays on the thread that accepted it, so most of its state stays in one core's cache.
    /// A broadcast reaches the clients of all threads; each thread writes for its own.
    ///
    /// # Errors
    /// Returns an error if a thread, its runtime or its listener cannot be created.
    pub fn run(self, threads: usize) -> Result<Infallible, ServeError> {
        self.run_with_shutdown(threads, pending())?;
        loop {
            // The application drains the server itself.
            std::thread::park();
        }
    }

    /// Serves as [`run`](Self::run) does; shuts down by [`Drain`](crate::server::Drain) when `shutdown` resolves.
    ///
    /// `shutdown` is polled on the calling thread, within a runtime. A separate thread serves [`admin`](Server::admin),
    /// so scrapes do not disturb the serving threads. All threads have ended when this returns; the [`Io`] cannot be
    /// served again.
    ///
    /// # Errors
    /// Returns an error if a thread, its runtime or its listener cannot be created.
    pub fn run_with_shutdown(
        self,
        threads: usize,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Drained, ServeError> {
        let Self { server, listener: first, address, admin } = self;
        let mut running = Running { io: server.io.clone(), threads: Vec::new() };
        if let Some(listener) = admin {
            let io = server.io.clone();
            running.spawn("roomcast-admin".into(), listener, async move |listener| {
                tokio::select! {
                    () = admin::serve(io.clone(), listener) => {}
                    () = io.app().lifecycle.reached(Phase::Over) => {}
                }
            })?;
        }
        for number in 1..threads {
            let bind = |source| ServeError::Bind { address: address.to_string(), source };
            let listener = listen_beside(&first).map_err(bind)?;
            let server = server.clone();
            running.spawn(format!("roomcast-{number}"), listener, async move |listener| {
                let _deferred = server.io.app().flushers.defer_wakes();
                accept_all(&server, listener).await;
                server.io.app().lifecycle.reached(Phase::Over).await;
            })?;
        }
        let runtime = runtime()?;
        let drained = runtime.block_on(async {
            let listener = TcpListener::from_std(first).map_err(ServeError::Thread)?;
            let _deferred = server.io.app().flushers.defer_wakes();
            Ok(serve_until(&server, listener, shutdown).await)
        });
        drop(running);
        drained
    }
}

/// Threads that are stopped and joined on drop.
struct Running {
    io: Io,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Running {
    #[expect(clippy::disallowed_methods, reason = "each thread of the server has a runtime of its own")]
    fn spawn<F: Future<Output = ()>>(
        &mut self,
        name: String,
        listener: std::net::TcpListener,
        serve: impl FnOnce(TcpListener) -> F + Send + 'static,
    ) -> Result<(), ServeError> {
        let runtime = runtime()?;
        let listener = {
            let _within = runtime.enter();
            TcpListener::from_std(listener).map_err(ServeError::Thread)?
        };
        let thread = std::thread::Builder::new().name(name).spawn(move || runtime.block_on(serve(listener)));
        self.threads.push(thread.map_err(ServeError::Thread)?);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.io.app().lifecycle.advance(Phase::Over);
        for thread in self.threads.drain(..) {
            // The panic hook has already reported a panic there.
            let _ = thread.join();
        }
    }
}

/// Accepts until `shutdown` resolves or [`Io::drain`] is called, then drains.
async fn serve_until(server: &Server, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Drained {
    let io = &server.io;
    let stop = async {
        shutdown.await;
        let drained = io.drain(server.drain).await;
        // HTTP connections with a request in progress end after it; idle ones end now.
        io.app().lifecycle.advance(Phase::Closing);
        io.until_gone(clock::now() + LAST_ANSWERS, || io.app().limits.connections() == 0).await;
        drained
    };
    let ((), drained) = tokio::join!(accept_all(server, listener), stop);
    drained
}

/// Time HTTP connections have to end after all sessions are closed
const LAST_ANSWERS: Duration = Duration::from_secs(1);

fn runtime() -> Result<Runtime, ServeError> {
    Builder::new_current_thread().enable_all().build().map_err(ServeError::Thread)
}
