//! `roomcast serve`

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use roomcast::{Config, Cors, Io, Polling, Server, WebSocket};
use tracing_subscriber::EnvFilter;

use crate::{demo, pages};

/// What `roomcast serve` is told
#[derive(Parser, Debug)]
pub(crate) struct Options {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000", env = "ROOMCAST_ADDR")]
    addr: SocketAddr,

    /// Serve the demo to other machines too; anybody who can reach the port can then use it
    #[arg(long, env = "ROOMCAST_PUBLIC")]
    public: bool,

    /// How many threads serve, each with clients of its own
    #[arg(long, value_name = "N", default_value = "1", env = "ROOMCAST_THREADS")]
    threads: NonZeroUsize,

    /// How clients may connect; without `websocket` there is no plain WebSocket either
    #[arg(
        long,
        value_name = "LIST",
        value_enum,
        value_delimiter = ',',
        default_value = "polling,websocket",
        env = "ROOMCAST_TRANSPORTS"
    )]
    transports: Vec<Transport>,

    /// Origin whose pages may use long-polling here, or `*` for all; may be repeated
    #[arg(long, value_name = "ORIGIN", env = "ROOMCAST_CORS", value_delimiter = ',')]
    cors: Vec<String>,

    /// Milliseconds between a sign of life and the next ping
    #[arg(long, value_name = "MS", default_value_t = 25_000, env = "ROOMCAST_PING_INTERVAL")]
    ping_interval: u64,

    /// Milliseconds a client has to answer a ping
    #[arg(long, value_name = "MS", default_value_t = 20_000, env = "ROOMCAST_PING_TIMEOUT")]
    ping_timeout: u64,

    /// Bytes one message may have
    #[arg(long, value_name = "BYTES", default_value_t = 1_000_000, env = "ROOMCAST_MAX_PAYLOAD")]
    max_payload: usize,

    /// Bytes that may wait for one client before it is closed as a slow consumer
    #[arg(long, value_name = "BYTES", default_value_t = 1_048_576, env = "ROOMCAST_OUTBOX")]
    outbox: usize,

    /// What is logged, such as `info` or `roomcast_server=debug`
    #[arg(long, value_name = "FILTER", default_value = "info", env = "ROOMCAST_LOG")]
    log: String,
}

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq, PartialOrd, Ord)]
enum Transport {
    Polling,
    #[value(name = "websocket")]
    WebSocket,
}

/// Serves until the process ends
pub(crate) fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    if !options.addr.ip().is_loopback() && !options.public {
        return Err(format!(
            "{} can be reached from other machines, and the demo lets everybody in; \
             add --public if that is what you want, or listen on 127.0.0.1",
            options.addr
        )
        .into());
    }
    let filter = EnvFilter::try_new(&options.log)
        .map_err(|error| format!("--log {:?} is not a filter: {error}", options.log))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    let io = build(options);
    demo::install(&io);
    let bound = Server::new(io).fallback(|request| pages::answer(&request)).bind(options.addr)?;
    announce(bound.address(), options);
    match bound.run(options.threads.get())? {}
}

fn build(options: &Options) -> Io {
    let cors = match options.cors.as_slice() {
        [] => Cors::Off,
        origins if origins.iter().any(|origin| origin == "*") => Cors::Any,
        origins => Cors::Origins { origins: origins.to_vec(), credentials: false },
    };
    let config = Config::default()
        .ping_interval(Duration::from_millis(options.ping_interval))
        .ping_timeout(Duration::from_millis(options.ping_timeout))
        .max_payload(options.max_payload)
        .outbox_limit(options.outbox)
        .cors(cors);
    let mut builder = Io::builder().config(config);
    for transport in options.transports.iter().collect::<BTreeSet<_>>() {
        builder = match transport {
            Transport::Polling => builder.transport(Polling::new().max_payload(options.max_payload)),
            Transport::WebSocket => {
                builder.transport(WebSocket::new().max_message(options.max_payload).bare_close(true))
            }
        };
    }
    builder.build()
}

/// Says what is where
fn announce(address: SocketAddr, options: &Options) {
    let websocket = options.transports.contains(&Transport::WebSocket);
    let polling = options.transports.contains(&Transport::Polling);
    let by = match (polling, websocket) {
        (true, true) => "long-polling and WebSocket",
        (true, false) => "long-polling only",
        _ => "WebSocket only",
    };
    println!("Roomcast is listening on http://{address}");
    println!();
    println!("  demo page        http://{address}/");
    println!("  Socket.IO        http://{address}/socket.io/   ({by})");
    if websocket {
        println!(
            "  plain WebSocket  ws://{address}/ws            (subprotocol roomcast.json for events and acks)"
        );
    }
    println!();
    println!("Stop it with Ctrl-C.");
}
