//! Redis servers of the tests: each on a free port, with a temporary folder, ended with the test.

pub(crate) mod cluster;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Running server; it ends when this is dropped, also after a panic.
#[derive(Debug)]
pub(crate) struct Redis {
    child: Option<Child>,
    pub(crate) port: u16,
    program: &'static str,
    folder: PathBuf,
    config: String,
}

impl Redis {
    pub(crate) fn start(config: &str) -> Self {
        Self::start_program("redis-server", config)
    }

    pub(crate) fn sentinel(config: &str) -> Self {
        Self::start_program("redis-sentinel", config)
    }

    fn start_program(program: &'static str, config: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("roomcast-redis-{}-{count}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        let port = free_port();
        let mut server = Self { child: None, port, program, folder, config: config.to_owned() };
        server.restart();
        server
    }

    /// Changes the configuration of the next start.
    pub(crate) fn configure(&mut self, config: &str) {
        config.clone_into(&mut self.config);
    }

    /// Starts the server on its port, after it was killed.
    pub(crate) fn restart(&mut self) {
        let path = self.folder.join("redis.conf");
        let config = format!(
            "port {}\nbind 127.0.0.1\nsave \"\"\nappendonly no\ndir {}\nlogfile {}\n{}\n",
            self.port,
            self.folder.display(),
            self.folder.join("log").display(),
            self.config
        );
        let config = match self.program {
            // A sentinel rejects settings of data.
            "redis-sentinel" => config.replace("save \"\"\nappendonly no\n", ""),
            _ => config,
        };
        fs::write(&path, config).expect("a configuration file");
        let mut command = Command::new(self.program);
        command.arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| {
            panic!(
                "cannot start {}: {error}; apt-get install redis-server redis-sentinel, \
                 or cargo xtask test --install",
                self.program
            )
        });
        self.child = Some(child);
        let ok = until(Duration::from_secs(10), || self.try_command(&["PING"]).is_some());
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        assert!(ok, "{} does not answer: {log}", self.program);
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("a running server");
        let pid = Pid::from_child(child);
        kill_process(pid, signal).expect("a running server");
    }

    /// Sends a command on a new connection; returns the first part of the reply.
    pub(crate) fn command(&self, args: &[&str]) -> String {
        self.try_command(args).unwrap_or_else(|| panic!("no reply to {args:?}"))
    }

    /// Like [`command`](Self::command), with the password of the server; the reply follows that to the password.
    pub(crate) fn command_as(&self, password: &str, args: &[&str]) -> String {
        self.try_commands(&[&["AUTH", password], args]).unwrap_or_else(|| panic!("no reply to {args:?}"))
    }

    pub(crate) fn try_command(&self, args: &[&str]) -> Option<String> {
        self.try_commands(&[args])
    }

    fn try_commands(&self, commands: &[&[&str]]) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        let mut text = String::new();
        for args in commands {
            text += &format!("*{}\r\n", args.len());
            args.iter().for_each(|arg| text += &format!("${}\r\n{arg}\r\n", arg.len()));
        }
        stream.write_all(text.as_bytes()).ok()?;
        let mut reply = [0; 65_536];
        let len = stream.read(&mut reply).ok()?;
        (len > 0).then(|| String::from_utf8_lossy(&reply[..len]).into_owned())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // SIGKILL ends a stopped process too.
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Waits until a condition holds; returns whether it does.
pub(crate) fn until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
