//! `roomcast serve`

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::time::Duration;

use roomcast::{Config, Cookie, Drain, HttpCompression, Io, Polling, Server, WebSocket};
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
    let io = build(options)?;
    demo::install(&io);
    let server = server(io, options);
    #[cfg(feature = "tls")]
    let server = secure(server, options)?;
    let bound = server.bind(options.addr)?;
    announce(bound.address(), bound.admin_address(), options);
    let drained = bound.run_with_shutdown(options.threads.get(), stop)?;
    println!("Stopped: {drained}.");
    Ok(())
}

fn build(options: &Options) -> Result<Io, Box<dyn std::error::Error>> {
    let config = options.times.config(options.limits.config(Config::default()));
    let mut config = config
        .transports(options.transports.iter().map(|transport| match transport {
            Transport::Polling => Polling::NAME,
            Transport::WebSocket => WebSocket::NAME,
        }))
        .allow_upgrades(!options.no_upgrades)
        .http_compression(
            (options.compress_polls > 0)
                .then(|| HttpCompression::default().threshold(options.compress_polls)),
        )
        .trusted_proxies(options.trusted_proxy.iter().copied())
        .origins(options.origins())
        .cors(options.cors());
    if let Some(recovery) = options.recovery.settings() {
        config = config.connection_state_recovery(recovery);
    }
    if let Some(compression) = options.compression.settings() {
        config = config.compression(compression);
    }
    for origin in &options.allow_origin {
        config = config.allow_origin(origin);
    }
    if let Some(name) = &options.cookie {
        config = config.cookie(Cookie::new(name).secure(options.has_tls()));
    }
    let mut builder = Io::builder().config(config);
    if let Some(folder) = &options.serve_client {
        builder = builder.serve_client(folder).map_err(|error| format!("--serve-client: {error}"))?;
    }
    Ok(builder.build())
}

fn server(io: Io, options: &Options) -> Server {
    let drain = Drain::default()
        .delay(options.drain_delay)
        .timeout(options.drain_timeout)
        .batches(options.drain_batch.get(), DRAIN_INTERVAL);
    let server = Server::new(io)
        .fallback(|request| pages::answer(&request))
        .proxy_protocol(options.proxy_protocol)
        .drain(drain);
    let server = options.times.server(options.limits.server(server));
    match options.admin_addr {
        Some(address) => server.admin(address),
        None => server,
    }
}

/// Adds the certificate, if there is one, and reads it again whenever SIGHUP comes
#[cfg(feature = "tls")]
fn secure(server: Server, options: &Options) -> Result<Server, Box<dyn std::error::Error>> {
    let (Some(certificate), Some(key)) = (&options.tls_cert, &options.tls_key) else { return Ok(server) };
    let tls = roomcast::Tls::from_files(certificate, key)
        .map_err(|error| format!("--tls-cert and --tls-key: {error}"))?;
    let renewed = tls.clone();
    signals::on_hangup(move || match renewed.reload() {
        Ok(()) => tracing::info!("read the certificate again"),
        Err(error) => tracing::error!(%error, "the certificate stays as it was"),
    })?;
    Ok(server.tls(tls))
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
    let (http, ws) = if options.has_tls() { ("https", "wss") } else { ("http", "ws") };
    println!("Roomcast is listening on {http}://{address}");
    println!();
    println!("  demo page        {http}://{address}/");
    println!("  Socket.IO        {http}://{address}/socket.io/   ({by})");
    if websocket {
        println!(
            "  plain WebSocket  {ws}://{address}/ws            (subprotocol roomcast.json for events and acks)"
        );
    }
    if let Some(admin) = admin {
        println!("  metrics          http://{admin}/metrics     (and /live, /ready)");
    }
    println!();
    println!("Stop it with Ctrl-C.");
}
