//! Servers that end with their test.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use roomcast_server::{Io, Server};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use super::PATIENCE;
use super::dial::Dial;

/// Runtime of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// A single-threaded runtime.
    CurrentThread,
    /// A runtime with this many workers.
    Workers(usize),
    /// This many threads, each with its own runtime.
    Threads(usize),
}

/// Server on a free port; dropping it ends the server.
#[derive(Debug)]
pub struct Running {
    pub dial: Dial,
    pub address: SocketAddr,
    /// Address of the admin endpoint, if the server has one.
    pub admin: Option<SocketAddr>,
    io: Io,
    runtime: Option<Runtime>,
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
}

/// Serves on two workers.
pub fn serve(io: &Io) -> Running {
    serve_on(io, On::Workers(2))
}

pub fn serve_on(io: &Io, on: On) -> Running {
    serve_server(io, on, Server::new(io.clone()))
}

/// Serves with custom server settings.
#[expect(clippy::disallowed_methods, reason = "the server has threads of its own")]
pub fn serve_server(io: &Io, on: On, server: Server) -> Running {
    let bound = server.bind("127.0.0.1:0").expect("a free port");
    let (address, admin) = (bound.address(), bound.admin_address());
    let running = |runtime, handle, stop| Running {
        dial: Dial::Tcp(address),
        address,
        admin,
        io: io.clone(),
        runtime,
        handle,
        stop,
    };
    match on {
        On::CurrentThread => {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            let handle = runtime.handle().clone();
            let (stop, stopped) = oneshot::channel();
            std::thread::spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        failed = bound.serve() => panic!("{failed:?}"),
                        _ = stopped => {}
                    }
                });
            });
            running(None, handle, Some(stop))
        }
        On::Workers(workers) => {
            let runtime = workers_of_test(workers);
            let handle = runtime.handle().clone();
            handle.spawn(bound.serve());
            running(Some(runtime), handle, None)
        }
        On::Threads(threads) => {
            let (stop, stopped) = oneshot::channel();
            std::thread::spawn(move || bound.run_with_shutdown(threads, async { _ = stopped.await }));
            // The test's own tasks run on a separate runtime.
            let runtime = workers_of_test(1);
            let handle = runtime.handle().clone();
            running(Some(runtime), handle, Some(stop))
        }
    }
}

impl Running {
    /// Runs a future on the server's runtime and waits for it.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.handle.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("an end in time") })
    }

    /// Runs a future concurrently with the test.
    pub fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Spawned<T> {
        Spawned(self.handle.spawn(future), self.handle.clone())
    }

    /// Ends the runtime immediately, with all its tasks.
    pub fn end_at_once(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Dropping the sender is the stop signal.
        self.stop = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.io.close();
        self.end();
    }
}

/// Task that runs concurrently with the test.
#[derive(Debug)]
pub struct Spawned<T>(tokio::task::JoinHandle<T>, Handle);

impl<T> Spawned<T> {
    pub fn join(self) -> T {
        let joined = self.1.block_on(async { tokio::time::timeout(PATIENCE, self.0).await });
        joined.expect("an end in time").expect("no panic")
    }
}

fn workers_of_test(workers: usize) -> Runtime {
    let built = Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    built.expect("a runtime")
}

/// Runs work that might hang, and panics if it does.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "a hung thread is left behind")]
pub fn ends<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, ended) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || _ = done.send(work()));
    match ended.recv_timeout(PATIENCE) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => panic!("the work did not finish in time"),
        Err(RecvTimeoutError::Disconnected) => {
            let panicked = thread.join().expect_err("it sent no result");
            std::panic::resume_unwind(panicked)
        }
    }
}

/// Waits for a condition that sends no notification.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "the condition sends no notification")]
pub fn until(mut holds: impl FnMut() -> bool) {
    let pause = Duration::from_millis(2);
    for _ in 0..PATIENCE.as_millis() / pause.as_millis() {
        if holds() {
            return;
        }
        std::thread::sleep(pause);
    }
    panic!("the condition was not met in time");
}
