//! Server processes on chosen CPUs.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use roomcast_loadgen::process::{now, run_on};
use roomcast_loadgen::{Error, ErrorContext as _};
use rustix::thread::CpuSet;

/// Child process; killed on drop.
pub(super) struct Running(pub(super) Child);

impl Running {
    /// Starts a process on `cpus`; this thread returns to `own_cpus`.
    ///
    /// A process inherits the CPUs of the thread that starts it, so it is pinned from the start.
    pub(super) fn start(command: &mut Command, cpus: &CpuSet, own_cpus: &CpuSet) -> Result<Self, Error> {
        run_on(cpus).doing(|| "move to the server's CPU".into())?;
        let child = command.spawn();
        run_on(own_cpus).doing(|| "move back".into())?;
        child.map(Self).doing(|| format!("start {}", command.get_program().display()))
    }

    #[expect(clippy::disallowed_methods, reason = "a process cannot be awaited to listen")]
    pub(super) fn wait_until_it_accepts(&mut self, port: u16) -> Result<(), String> {
        let deadline = now() + TIME_TO_START;
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        while now() < deadline {
            if let Ok(Some(status)) = self.0.try_wait() {
                return Err(format!("the server exited at startup: {status}"));
            }
            if TcpStream::connect(address).is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(format!("the server did not listen within {} s", TIME_TO_START.as_secs()))
    }

    #[expect(clippy::disallowed_methods, reason = "the thread only waits")]
    pub(super) fn ends_within(&mut self, time: Duration) -> io::Result<bool> {
        let deadline = now() + time;
        loop {
            if self.0.try_wait()?.is_some() {
                return Ok(true);
            }
            if now() > deadline {
                return Ok(false);
            }
            // Poll rarely, since it takes time on the server's CPU.
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The process may have exited already.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

const TIME_TO_START: Duration = Duration::from_secs(10);
