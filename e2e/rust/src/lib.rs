//! Test support for the Rust client: servers under test, the client, and a plain client.

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

/// Running server; killed on drop. Only one runs at a time.
pub struct Server {
    child: Child,
    port: u16,
    _alone: MutexGuard<'static, ()>,
}

impl Server {
    /// Starts the conformance application with additional flags.
    pub fn conformance(flags: &[&str]) -> Self {
        let calm = ["--port", "0", "--connect-timeout", "45000"];
        let slow = ["--ping-interval", "25000", "--ping-timeout", "20000"];
        let timing: &[&str] = if flags.contains(&"--ping-interval") { &[] } else { &slow };
        Self::start("conformance_server", &[&calm, timing, flags].concat())
    }

    /// Starts the demo application, `roomcast serve`.
    pub fn demo() -> Self {
        Self::start("roomcast", &["serve", "--addr", "127.0.0.1:0"])
    }

    /// Returns the URL, such as `http://127.0.0.1:4321`.
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

/// All transports, by name.
pub fn transports() -> [(&'static str, TransportType); 4] {
    [
        ("polling", TransportType::Polling),
        ("websocket", TransportType::Websocket),
        ("polling, upgraded", TransportType::WebsocketUpgrade),
        ("any", TransportType::Any),
    ]
}

/// Client with its received events.
pub struct Socket {
    name: &'static str,
    client: Client,
    heard: Receiver<(String, Payload)>,
}

impl Socket {
    /// Connects a client; `name` appears in failures.
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

    /// Sends an event and waits for the ack.
    pub fn ask(&self, event: &str, payload: Payload) -> Payload {
        let (tell, answer) = channel();
        let told = move |answer, _| _ = tell.send(answer);
        self.client.emit_with_ack(event, payload, PATIENCE, told).expect("it is connected");
        answer.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{}: no answer to {event}", self.name))
    }

    /// Expects the next event and returns its arguments.
    pub fn next(&mut self, event: &str) -> Vec<Value> {
        match self.next_payload(event) {
            Payload::Text(args) => args,
            other => panic!("{}: {event} with {other:?}", self.name),
        }
    }

    /// Like [`next`](Self::next), for text or binary.
    pub fn next_payload(&mut self, event: &str) -> Payload {
        let (heard, payload) =
            self.heard.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{}: no {event}", self.name));
        assert_eq!(heard, event, "{}: {payload:?}", self.name);
        payload
    }

    /// Skips events until this one arrives in this form.
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

/// Plain WebSocket client of the demo: sends lines, receives arrays of an event and its arguments.
pub struct Plain(WebSocket<TcpStream>);

impl Plain {
    /// Connects a plain client.
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

    /// Expects the next event and returns its arguments.
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

/// Reads the output and returns the port in it.
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
