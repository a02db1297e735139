//! The whole server over loopback sockets, through its public API.
//!
//! Measured: the time from a client's frame to the last delivery of the message it causes: system calls, wake-ups,
//! frames, protocol, handler and rooms, and the clients' reads, one per server write. The load is paced: a round begins
//! when the last client has read. The server has one thread; the clients share another.
//!
//! Not measured: throughput and CPU time, which the load generator measures from outside the process.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use roomcast::transport::Endpoint;
use roomcast::{Args, Io, Server, Socket};
use roomcast_core::{Message, Wire as _};
use roomcast_transport_ws::WsWire;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use common::{settings, size_name, text};

const CLIENTS: usize = 100;
const PAYLOADS: [usize; 3] = [64, 1024, 16 * 1024];

fn main() {
    let mut criterion = settings();
    let server = Running::start();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(server.address)).collect();
    broadcast(&mut criterion, &mut clients);
    echo(&mut criterion, &mut clients[0]);
    criterion.final_summary();
}

fn broadcast(criterion: &mut Criterion, clients: &mut [Client]) {
    let mut group = criterion.benchmark_group("loopback/broadcast");
    group.throughput(Throughput::Elements(CLIENTS as u64));
    for bytes in PAYLOADS {
        let round = Round::new("broadcast ", bytes);
        group.bench_function(BenchmarkId::new(size_name(bytes), CLIENTS), |bencher| {
            bencher.iter(|| {
                clients[0].send(&round);
                clients.iter_mut().for_each(|client| client.receive(&round));
            });
        });
    }
}

fn echo(criterion: &mut Criterion, client: &mut Client) {
    let mut group = criterion.benchmark_group("loopback/echo");
    group.throughput(Throughput::Elements(1));
    for bytes in PAYLOADS {
        let round = Round::new("echo ", bytes);
        group.bench_function(size_name(bytes), |bencher| {
            bencher.iter(|| {
                client.send(&round);
                client.receive(&round);
            });
        });
    }
}

/// Frame sent in each round, and the expected response.
struct Round {
    sent: Vec<u8>,
    received: Vec<u8>,
}

impl Round {
    fn new(command: &str, bytes: usize) -> Self {
        let text = format!("{command}{}", text(bytes - command.len()));
        let received = WsWire.render(&[Message::from(text)]);
        // A client's frame has a masking key after its length; a zero key changes nothing.
        let mut sent = received.to_vec();
        sent[1] |= 0x80;
        let header = if bytes > 125 { 4 } else { 2 };
        sent.splice(header..header, [0; 4]);
        Self { sent, received: received.to_vec() }
    }
}

/// Plain client on a blocking socket.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("an option");
        let (socket, _) = tungstenite::client(format!("ws://{address}/"), stream).expect("a handshake");
        // The server has sent no message yet, so no buffered bytes are lost.
        let mut client = Self { stream: socket.into_inner(), buffer: Vec::new() };
        // The first echo shows that the client is connected.
        let hello = Round::new("echo ", 64);
        client.send(&hello);
        client.receive(&hello);
        client
    }

    fn send(&mut self, round: &Round) {
        self.stream.write_all(&round.sent).expect("the server reads");
    }

    fn receive(&mut self, round: &Round) {
        self.buffer.resize(round.received.len(), 0);
        self.stream.read_exact(&mut self.buffer).expect("the server answers");
        assert!(self.buffer == round.received, "unexpected message");
    }
}

/// Server on a dedicated thread, stopped on drop.
struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    #[expect(clippy::disallowed_methods, reason = "the server runs on a dedicated thread")]
    fn start() -> Self {
        let io = Io::builder().endpoint(Endpoint::plain("*")).build();
        io.on("message", async |socket: Socket, args: Args| {
            let to_all = args.json().starts_with("\"broadcast ");
            let sent = if to_all {
                socket.namespace().emit("message", &args)
            } else {
                socket.emit("message", &args)
            };
            assert!(sent.is_ok(), "received arguments can be sent");
        });
        let bound = Server::new(io).bind("127.0.0.1:0").expect("there is a port");
        let address = bound.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    served = bound.serve() => panic!("the server ended: {served:?}"),
                    _ = stopped => {}
                }
            });
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
