//! `roomcast serve`

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::time::Duration;

use roomcast::{Config, Drain, EventRate, Io, Polling, Server, WebSocket};
use tracing_subscriber::EnvFilter;

use crate::options::{Options, Transport};
use crate::{demo, pages, signals};

/// Serves until it is told to stop, and everybody is gone
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
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    if options.admin_addr.is_some_and(|address| !address.ip().is_loopback()) {
        tracing::warn!("the admin listener asks nobody who he is; see that only you can reach it");
    }
    raise_descriptors();

    let stop = signals::stop()?;
    let io = build(options);
    demo::install(&io);
    let bound = server(io, options).bind(options.addr)?;
    announce(bound.address(), bound.admin_address(), options);
    let drained = bound.run_with_shutdown(options.threads.get(), stop)?;
    println!("Stopped: {drained}.");
    Ok(())
}

fn build(options: &Options) -> Io {
    let mut config = Config::default()
        .ping_interval(Duration::from_millis(options.ping_interval))
        .ping_timeout(Duration::from_millis(options.ping_timeout))
        .max_payload(options.max_payload)
        .outbox_limit(options.outbox)
        .max_sessions(options.max_sessions.get())
        .trusted_proxies(options.trusted_proxy.iter().copied())
        .origins(options.origins())
        .cors(options.cors());
    if let Some(max) = options.max_connections_per_address {
        config = config.max_connections_per_address(max.get());
    }
    if let Some(recovery) = options.recovery() {
        config = config.connection_state_recovery(recovery);
    }
    if let Some(events) = options.max_events_per_second {
        let rate = EventRate::per_second(events);
        config = config.event_rate(options.event_burst.map_or(rate, |burst| rate.burst(burst)));
    }
    for origin in &options.allow_origin {
        config = config.allow_origin(origin);
    }
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

fn server(io: Io, options: &Options) -> Server {
    let drain = Drain::default()
        .delay(options.drain_delay)
        .timeout(options.drain_timeout)
        .batches(options.drain_batch.get(), DRAIN_INTERVAL);
    let mut server = Server::new(io)
        .fallback(|request| pages::answer(&request))
        .max_header_bytes(options.max_header_bytes)
        .max_headers(options.max_headers)
        .header_timeout(options.header_timeout)
        .keep_alive_timeout(options.keep_alive_timeout)
        .proxy_protocol(options.proxy_protocol)
        .drain(drain);
    if let Some(max) = options.max_connections {
        server = server.max_connections(max.get());
    }
    if let Some(address) = options.admin_addr {
        server = server.admin(address);
    }
    server
}

/// From one batch to the next, as `--drain-batch` says
const DRAIN_INTERVAL: Duration = Duration::from_millis(250);

/// Takes as many descriptors as the system lets the process have; often it begins with 1024
#[cfg(unix)]
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, descriptors = ?limit.current, "cannot have more descriptors");
    }
}

#[cfg(not(unix))]
fn raise_descriptors() {}

/// Says what is where
fn announce(address: SocketAddr, admin: Option<SocketAddr>, options: &Options) {
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
    if let Some(admin) = admin {
        println!("  metrics          http://{admin}/metrics     (and /live, /ready)");
    }
    println!();
    println!("Stop it with Ctrl-C.");
}
