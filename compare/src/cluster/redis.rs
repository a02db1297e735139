//! Redis server of a run.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use roomcast_loadgen::process::now;
use roomcast_loadgen::{Error, ErrorContext as _};
use rustix::thread::CpuSet;

use crate::child::{Running, free_port};

/// Redis server with its default settings and without a file; ended on drop.
pub(super) struct Redis {
    process: Running,
    port: u16,
}

impl Redis {
    #[expect(clippy::disallowed_methods, reason = "a process cannot be awaited to listen")]
    pub(super) fn start(cpus: &CpuSet, own_cpus: &CpuSet) -> Result<Self, Error> {
        let port = free_port().doing(|| "find a free port".into())?;
        let mut command = Command::new(PROGRAM);
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let redis = Self { process: Running::start(&mut command, cpus, own_cpus)?, port };
        let deadline = now() + TIME_TO_START;
        while !redis.answers() {
            if now() > deadline {
                return Err(Error::Server("redis-server does not answer".into()));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(redis)
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    fn answers(&self) -> bool {
        let ping = || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
            stream.write_all(b"PING\r\n")?;
            let mut reply = [0; PONG.len()];
            stream.read_exact(&mut reply)?;
            Ok::<_, std::io::Error>(reply == *PONG)
        };
        ping().unwrap_or(false)
    }
}

const PROGRAM: &str = "redis-server";
const PONG: &[u8; 7] = b"+PONG\r\n";
const TIME_TO_START: Duration = Duration::from_secs(10);
