//! Running servers, and clients of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use roomcast_testkit::socket::dial::Dial;
use roomcast_testkit::socket::ws::{Ended, Message, Ws};
use rustix::process::{Pid, Signal, kill_process};

/// Upper bound of any wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Running server; killed on drop.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdout: BufReader<std::process::ChildStdout>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roomcast"));
    let set = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROOMCAST_"));
    set.for_each(|(name, _)| _ = command.env_remove(name));
    command.env_remove("PORT");
    command
}

impl Running {
    pub(crate) fn start(configure: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        Self::start_logging(configure, Stdio::null())
    }

    pub(crate) fn start_logging(configure: impl FnOnce(&mut Command) -> &mut Command, log: Stdio) -> Self {
        let mut command = command();
        configure(command.args(["serve", "--addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]));
        Self::spawn(command, log)
    }

    /// Starts without `--addr`, which `configure` may add.
    pub(crate) fn start_at(configure: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let mut command = command();
        configure(&mut command).args(["--admin-addr", "127.0.0.1:0"]);
        Self::spawn(command, Stdio::null())
    }

    pub(crate) fn spawn(mut command: Command, log: Stdio) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("it starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (mut address, mut admin) = (None, None);
        while address.is_none() || admin.is_none() {
            let mut line = String::new();
            let read = stdout.read_line(&mut line).expect("text");
            assert!(read > 0, "it ended before it printed its address");
            let told = line.trim().split_once("http://").map(|(_, rest)| rest);
            if line.contains("is listening on") {
                address = told.and_then(|address| address.parse().ok());
            } else if line.contains("metrics") {
                admin = told.and_then(|rest| rest.split('/').next()?.parse().ok());
            }
        }
        let (address, admin) = (address.expect("an address"), admin.expect("an address"));
        Self { child, stdout, address, admin }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request and returns status and body.
pub(crate) fn ask(address: SocketAddr, target: &str) -> (u16, String) {
    let answer = answer(address, target);
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned())
}

/// Sends a request and returns the whole response.
pub(crate) fn answer(address: SocketAddr, target: &str) -> String {
    let mut stream = connect(address);
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

/// Socket.IO client over WebSocket.
pub(crate) struct Chat(pub(crate) Ws);

impl Chat {
    /// Joins the main namespace.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let mut chat = Self::session(address);
        chat.say("40");
        assert!(chat.hear().starts_with("40{"));
        // Welcome message of the demo.
        assert!(chat.hear().starts_with("42[\"hello\""));
        chat
    }

    /// Opens a session without joining a namespace.
    pub(crate) fn session(address: SocketAddr) -> Self {
        let dial = Dial::Tcp(address);
        let mut chat = Self(Ws::open(&dial, "/socket.io/?EIO=4&transport=websocket", None));
        assert!(chat.hear().starts_with("0{"));
        chat
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.0.send(text.into());
    }

    /// Returns the next message.
    ///
    /// # Panics
    ///
    /// Panics if it is not text.
    pub(crate) fn hear(&mut self) -> String {
        match self.0.receive() {
            Ok(Message::Text(text)) => text,
            other => panic!("expected text, got {other:?}"),
        }
    }

    /// Returns how the connection ended.
    ///
    /// # Panics
    ///
    /// Panics if a message arrives instead.
    pub(crate) fn end(&mut self) -> Ended {
        self.0.receive().expect_err("it ends")
    }
}
