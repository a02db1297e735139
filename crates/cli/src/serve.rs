//! The `roomcast serve` command.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use roomcast::config::ConfigError;
use roomcast::server::Drain;
use roomcast::transport::{Polling, WebSocket};
use roomcast::{Config, Io, ServeError, Server};
use tracing_subscriber::filter::Targets;

use crate::address::Address;
use crate::cause::with_causes;
use crate::log::{Log, PATIENCE};
use crate::options::{Options, Transport};
use crate::output::Output;
use crate::pages::Pages;
use crate::sources::Sources;
use crate::{demo, signals};

/// Serves until a shutdown signal, then drains all clients.
pub(crate) fn run(options: &Options, sources: &Sources<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let port = if sources.is_set("addr") { None } else { port()? };
    let address = match port {
        // Container hosts set PORT and connect from outside, which still needs `--public`.
        Some(port) if options.public => Address::any(port),
        Some(port) => Address::loopback(port),
        None => options.addr.clone(),
    };
    if !address.is_loopback() && !options.public {
        return Err(format!(
            "{address} can be reached from other machines, and the demo has no authentication; \
             add --public to allow this, or listen on 127.0.0.1"
        )
        .into());
    }
    let filter: Targets = options
        .log
        .parse()
        .map_err(|error| format!("{} {:?} is not a filter: {error}", sources.name("log"), options.log))?;
    // Dropping it at the end flushes it.
    let log = Log::start(filter, options.log_format)?;
    let stdout = Output::start("stdout", std::io::stdout(), |_| {}, |_| {})?;
    if options.admin_addr.as_ref().is_some_and(|address| !address.is_loopback()) {
        tracing::warn!("admin endpoint has no authentication; restrict network access");
    }
    if let Some(port) = port.filter(|_| !options.public) {
        tracing::warn!(
            port,
            "listening on loopback only although PORT is set; add --public (ROOMCAST_PUBLIC=1)"
        );
    }
    raise_descriptors();

    let stop = signals::stop()?;
    let io = build(options, sources)?;
    log.count_in(&io);
    demo::install(&io);
    let client = options.http.serve_client.as_ref();
    let has_client = client.is_some_and(|folder| folder.join("socket.io.esm.min.js").exists());
    let pages = Arc::new(Pages::new(has_client));
    let server = server(io, options, pages.clone());
    #[cfg(feature = "tls")]
    let server = secure(server, options, sources)?;
    #[cfg(not(feature = "tls"))]
    signals::on_hangup(nothing_to_read)?;
    let bound = server.bind(address.candidates()).map_err(|error| unbound(error, &address, sources))?;
    if let Some(admin) = bound.admin_address() {
        pages.bound(admin);
    }
    stdout.push(announcement(bound.address(), bound.admin_address(), options).as_bytes());
    let drained = bound.run_with_shutdown(options.threads.get(), stop)?;
    stdout.push(format!("Stopped: {drained}.\n").as_bytes());
    stdout.flush(PATIENCE);
    Ok(())
}

/// Reads the environment variable `PORT`, which container hosts set.
fn port() -> Result<Option<u16>, String> {
    let Some(port) = std::env::var_os("PORT") else { return Ok(None) };
    let number = port.to_str().filter(|port| !port.is_empty()).map(str::parse);
    match number {
        None if port.is_empty() => Ok(None),
        Some(Ok(number)) => Ok(Some(number)),
        _ => Err(format!("the environment variable PORT is {port:?}, not a port: correct it, or set --addr")),
    }
}

/// Formats a bind error with a hint.
fn unbound(error: ServeError, address: &Address, sources: &Sources<'_>) -> String {
    let (asked, source) = match error {
        ServeError::Bind { address, source } => (address, source),
        ServeError::Config(error) => return refused(&error, sources),
        error => return with_causes(&error),
    };
    let is_main = asked == format!("{:?}", address.candidates());
    let (asked, id) = if is_main { (address.to_string(), "addr") } else { (asked, "admin_addr") };
    match source.kind() {
        ErrorKind::AddrInUse => format!(
            "cannot listen on {asked}: address in use; stop the other server, or choose another with {}",
            sources.name(id)
        ),
        _ => format!("cannot listen on {asked}: {source}"),
    }
}

/// Formats a configuration error with the name of the flag or variable.
fn refused(error: &ConfigError, sources: &Sources<'_>) -> String {
    let id = match error.setting() {
        "outbox_limit" => "outbox",
        setting => setting,
    };
    format!("{} {}", sources.name(id), error.reason())
}

fn build(options: &Options, sources: &Sources<'_>) -> Result<Io, Box<dyn std::error::Error>> {
    let transports = options.transports.iter().map(|transport| match transport {
        Transport::Polling => Polling::NAME,
        Transport::WebSocket => WebSocket::NAME,
    });
    let config = Config::new().transports(transports).allow_upgrades(!options.no_upgrades);
    let config = options.timeouts.config(options.limits.config(config));
    let config = options.http.config(config, options.has_tls());
    let config = options.recovery.config(options.websocket.config(config));
    #[cfg(feature = "redis")]
    let config = options.redis.sessions(config, options.recovery.time(), sources)?;
    let mut builder = Io::builder()
        .config(config)
        .build_info("commit", env!("ROOMCAST_BUILD_COMMIT"))
        .build_info("profile", env!("ROOMCAST_BUILD_PROFILE"))
        .build_info("rustc", env!("ROOMCAST_BUILD_RUSTC"));
    if let Some(folder) = &options.http.serve_client {
        let named = |error| format!("{}: {error}", sources.name("serve_client"));
        builder = builder.serve_client(folder).map_err(named)?;
    }
    #[cfg(feature = "redis")]
    let builder = options.redis.connect(builder, sources)?;
    builder.try_build().map_err(|error| refused(&error, sources).into())
}

fn server(io: Io, options: &Options, pages: Arc<Pages>) -> Server {
    let drain = Drain::default()
        .delay(options.drain_delay)
        .timeout(options.drain_timeout)
        .batches(options.drain_batch.get(), DRAIN_INTERVAL);
    let server = Server::new(io)
        .fallback(move |request| pages.answer(&request))
        .proxy_protocol(options.http.proxy_protocol)
        .drain(drain);
    let server = options.timeouts.server(options.limits.server(server));
    match &options.admin_addr {
        Some(address) => server.admin(address.first()),
        None => server,
    }
}

/// Enables TLS if a certificate is configured, and reloads it on SIGHUP.
#[cfg(feature = "tls")]
fn secure(
    server: Server,
    options: &Options,
    sources: &Sources<'_>,
) -> Result<Server, Box<dyn std::error::Error>> {
    let (Some(certificate), Some(key)) = (&options.tls_cert, &options.tls_key) else {
        signals::on_hangup(nothing_to_read)?;
        return Ok(server);
    };
    let tls = roomcast::server::Tls::from_files(certificate, key).map_err(|error| {
        format!("{} and {}: {}", sources.name("tls_cert"), sources.name("tls_key"), with_causes(&error))
    })?;
    let renewed = tls.clone();
    signals::on_hangup(move || match renewed.reload() {
        Ok(()) => tracing::info!("certificate reloaded"),
        Err(error) => {
            tracing::error!(error = %with_causes(&error), "certificate not reloaded; the previous one stays in use")
        }
    })?;
    Ok(server.tls(tls))
}

/// Ignores SIGHUP, which a closing terminal or a reloading supervisor sends.
fn nothing_to_read() {
    tracing::info!("SIGHUP ignored: no certificate to reload");
}

/// Time between two batches of `--drain-batch`.
const DRAIN_INTERVAL: Duration = Duration::from_millis(250);

/// Raises the descriptor limit, often 1024, to the hard limit.
#[cfg(unix)]
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, descriptors = limit.current, "descriptor limit not raised");
    }
}

#[cfg(not(unix))]
fn raise_descriptors() {}

/// Formats the list of endpoints printed at startup.
fn announcement(address: SocketAddr, admin: Option<SocketAddr>, options: &Options) -> String {
    let websocket = options.transports.contains(&Transport::WebSocket);
    let polling = options.transports.contains(&Transport::Polling);
    let by = match (polling, websocket) {
        (true, true) => "long-polling and WebSocket",
        (true, false) => "long-polling only",
        _ => "WebSocket only",
    };
    let (http, ws) = if options.has_tls() { ("https", "wss") } else { ("http", "ws") };
    let listening = format!("{http}://{address}");
    // Browsers do not open the wildcard address.
    let any = address.ip().is_unspecified();
    let address = if any { format!("localhost:{}", address.port()) } else { address.to_string() };
    let mut text = format!(
        "Roomcast is listening on {listening}\n\n  \
         demo page        {http}://{address}/\n  \
         Socket.IO        {http}://{address}/socket.io/   ({by})\n"
    );
    if websocket {
        text += &format!(
            "  plain WebSocket  {ws}://{address}/ws            (subprotocol roomcast.json for events and acks)\n"
        );
    }
    if let Some(admin) = admin {
        text += &format!("  metrics          http://{admin}/metrics     (and /live, /ready)\n");
    }
    text += "\nPress Ctrl-C to stop.\n";
    text
}
