//! Servers that end with their test

use std::future::Future;
use std::net::SocketAddr;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use roomcast_server::{Io, Server};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use super::PATIENCE;
use super::dial::Dial;

/// Where a server runs
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// A runtime of one thread
    CurrentThread,
    /// A runtime of this many workers
    Workers(usize),
    /// This many threads with a runtime each
    Threads(usize),
}

/// A server on a free port; it is gone when this is dropped
#[derive(Debug)]
pub struct Running {
    pub dial: Dial,
    pub address: SocketAddr,
    io: Io,
    runtime: Option<Runtime>,
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
}

/// Serves on two workers
pub fn serve(io: &Io) -> Running {
    serve_on(io, On::Workers(2))
}

pub fn serve_on(io: &Io, on: On) -> Running {
    serve_server(io, on, Server::new(io.clone()))
}

/// With settings of the server that are not the default
#[expect(clippy::disallowed_methods, reason = "the server has threads of its own")]
pub fn serve_server(io: &Io, on: On, server: Server) -> Running {
    let bound = server.bind("127.0.0.1:0").expect("a free port");
    let address = bound.address();
    let running = |runtime, handle, stop| Running {
        dial: Dial::Tcp(address),
        address,
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
            // What the test itself runs runs elsewhere.
            let runtime = workers_of_test(1);
            let handle = runtime.handle().clone();
            running(Some(runtime), handle, Some(stop))
        }
    }
}

impl Running {
    /// Runs something where the server runs, and waits for it
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.handle.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("it ends") })
    }

    /// Runs something beside the test
    pub fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Spawned<T> {
        Spawned(self.handle.spawn(future), self.handle.clone())
    }

    /// Ends the runtime with everything on it, as it stands
    pub fn end_at_once(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Whoever waits for this is told by its end.
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

/// Something that runs beside the test
#[derive(Debug)]
pub struct Spawned<T>(tokio::task::JoinHandle<T>, Handle);

impl<T> Spawned<T> {
    pub fn join(self) -> T {
        let joined = self.1.block_on(async { tokio::time::timeout(PATIENCE, self.0).await });
        joined.expect("it ends").expect("it does not panic")
    }
}

fn workers_of_test(workers: usize) -> Runtime {
    let built = Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    built.expect("a runtime")
}

/// Does something that must not hang, so that the test ends if it does
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "whoever hangs is left behind")]
pub fn ends<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, ended) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || _ = done.send(work()));
    match ended.recv_timeout(PATIENCE) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(RecvTimeoutError::Disconnected) => {
            let panicked = thread.join().expect_err("it told nothing");
            std::panic::resume_unwind(panicked)
        }
    }
}

/// Waits until something holds that nobody tells of
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "nothing tells of it")]
pub fn until(mut holds: impl FnMut() -> bool) {
    let pause = Duration::from_millis(2);
    for _ in 0..PATIENCE.as_millis() / pause.as_millis() {
        if holds() {
            return;
        }
        std::thread::sleep(pause);
    }
    panic!("it never came about");
}
