//! What the tests of the Rust client stand on: the servers under test, the client, and a plain one to meet.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rust_socketio::client::Client;
use rust_socketio::{ClientBuilder, Payload, TransportType};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// A running server, which ends with this; there is one at a time.
pub struct Server {
    child: Child,
    port: u16,
    _alone: MutexGuard<'static, ()>,
}

impl Server {
    /// The conformance application, with further flags.
    pub fn conformance(flags: &[&str]) -> Self {
        let calm = ["--port", "0", "--connect-timeout", "45000"];
        let slow = ["--ping-interval", "25000", "--ping-timeout", "20000"];
        let timing: &[&str] = if flags.contains(&"--ping-interval") { &[] } else { &slow };
        Self::start("conformance_server", &[&calm, timing, flags].concat())
    }

    /// The demo application, `roomcast serve`.
    pub fn demo() -> Self {
        Self::start("roomcast", &["serve", "--addr", "127.0.0.1:0"])
    }

    /// Where it listens, such as `http://127.0.0.1:4321`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn start(name: &str, flags: &[&str]) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut command = Command::new(program(name));
        command.args(flags).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let (tell, ports) = channel();
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            watch(out, tell.clone());
            watch(err, tell);
        }
        let port = ports.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{name} does not listen"));
        Self { child, port, _alone: alone }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All it has, by name.
pub fn transports() -> [(&'static str, TransportType); 4] {
    [
        ("polling", TransportType::Polling),
        ("websocket", TransportType::Websocket),
        ("polling, upgraded", TransportType::WebsocketUpgrade),
        ("any", TransportType::Any),
    ]
}

/// A client, and what it hears.
pub struct Socket {
    name: &'static str,
    client: Client,
    heard: Receiver<(String, Payload)>,
}

impl Socket {
    /// Connects, and gives its name in whatever goes wrong.
    pub fn connect(
        server: &Server,
        (name, transport): (&'static str, TransportType),
        namespace: &str,
    ) -> Self {
        let (tell, heard) = channel();
        let client = ClientBuilder::new(server.url())
            .namespace(namespace)
            .transport_type(transport)
            .reconnect(false)
            .auth(json!({ "token": "123" }))
            .on_any(move |event, payload, _| _ = tell.send((event.to_string(), payload)))
            .connect()
            .unwrap_or_else(|error| panic!("{name} does not connect: {error}"));
        Self { name, client, heard }
    }

    /// Sends an event.
    pub fn emit(&self, event: &str, payload: impl Into<Payload>) {
        self.client.emit(event, payload).expect("it is connected");
    }

    /// Sends an event and waits for the answer.
    pub fn ask(&self, event: &str, payload: Payload) -> Payload {
        let (tell, answer) = channel();
        let told = move |answer, _| _ = tell.send(answer);
        self.client.emit_with_ack(event, payload, PATIENCE, told).expect("it is connected");
        answer.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{}: no answer to {event}", self.name))
    }

    /// The next event, which has to be this one.
    pub fn next(&mut self, event: &str) -> Vec<Value> {
        match self.next_payload(event) {
            Payload::Text(args) => args,
            other => panic!("{}: {event} with {other:?}", self.name),
        }
    }

    /// As [`next`](Self::next), for what may be bytes.
    pub fn next_payload(&mut self, event: &str) -> Payload {
        let (heard, payload) =
            self.heard.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{}: no {event}", self.name));
        assert_eq!(heard, event, "{}: {payload:?}", self.name);
        payload
    }

    /// Passes over events until this one comes in this form.
    pub fn until(&mut self, event: &str, is_meant: impl Fn(&[Value]) -> bool) {
        loop {
            let (heard, payload) =
                self.heard.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{}: no {event}", self.name));
            if heard == event && matches!(&payload, Payload::Text(args) if is_meant(args)) {
                return;
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = self.client.disconnect();
    }
}

/// A plain WebSocket client of the demo: lines out, arrays of an event and its arguments in.
pub struct Plain(WebSocket<TcpStream>);

impl Plain {
    /// Connects.
    pub fn open(server: &Server) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let url = format!("ws://127.0.0.1:{}/ws", server.port);
        Self(tungstenite::client(url, stream).expect("a handshake").0)
    }

    /// Sends a line.
    pub fn send(&mut self, line: &str) {
        self.0.send(Message::text(line)).expect("it is connected");
    }

    /// The arguments of the next event, which has to be this one.
    pub fn next(&mut self, event: &str) -> Vec<Value> {
        loop {
            let message = self.0.read().unwrap_or_else(|error| panic!("no {event}: {error}"));
            let Message::Text(text) = message else { continue };
            let mut args: Vec<Value> = serde_json::from_str(&text).expect("an array");
            assert_eq!(args.remove(0), event, "{text}");
            return args;
        }
    }
}

/// Reads all that is printed, and tells the port that is named there.
fn watch(printed: impl Read + Send + 'static, tell: Sender<u16>) {
    thread::spawn(move || {
        for line in BufReader::new(printed).lines().map_while(Result::ok) {
            let port = line.split_once("http://127.0.0.1:").map(|(_, rest)| rest);
            let digits = port.map(|rest| rest.split(|letter: char| !letter.is_ascii_digit()).next());
            if let Some(Ok(port)) = digits.flatten().map(str::parse) {
                let _ = tell.send(port);
            }
        }
    });
}

fn program(name: &str) -> PathBuf {
    let folder = env::var_os("ROOMCAST_BIN_DIR").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/debug"));
    let places = [folder.join(name), folder.join("examples").join(name)];
    let found = places.into_iter().find(|place| place.is_file());
    found.unwrap_or_else(|| panic!("no {name} in {}; cargo build --bins --examples", folder.display()))
}

const PATIENCE: Duration = Duration::from_secs(20);
