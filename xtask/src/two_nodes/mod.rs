//! Two servers on one Redis, behind a load balancer with sticky sessions: `cargo xtask two-nodes`.

mod balancer;
mod request;

use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use self::balancer::Balancer;
use crate::project::{Project, cargo};

/// Options of `cargo xtask two-nodes`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Port of the load balancer; 0 picks a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Redis to use. Default: starts redis-server on a free port
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Folder of a `roomcast` to use. Default: builds it
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

/// Runs until SIGINT or SIGTERM.
pub(crate) fn run(project: &Project, options: &Options) -> ExitCode {
    match try_run(project, options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("two-nodes: {error}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(project: &Project, options: &Options) -> Result<(), String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, stop.clone()).map_err(|error| error.to_string())?;
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).map_err(|error| {
        format!("cannot listen on port {}: {error}; choose another with --port", options.port)
    })?;
    let program = match &options.programs {
        Some(folder) => folder.join("roomcast"),
        None => build(project)?,
    };
    let (redis, url) = match &options.redis {
        Some(url) => (None, url.clone()),
        None => start_redis().map(|(process, url)| (Some(process), url))?,
    };
    let nodes = [Node::start(&program, &url)?, Node::start(&program, &url)?];
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    println!("Two servers on one Redis; the load balancer keeps each session on its server.\n");
    println!("  load balancer  http://{address}/   (open it twice: sessions alternate between the servers)");
    for (number, Node { process, address, metrics }) in (1..).zip(&nodes) {
        let pid = process.0.id();
        println!("  server {number}       http://{address}/   (process {pid}, metrics {metrics})");
    }
    match &redis {
        Some(process) => println!("  Redis          {url}   (process {})", process.0.id()),
        None => println!("  Redis          as given"),
    }
    println!("\nPress Ctrl-C to stop.");
    let balancer = Arc::new(Balancer::new(nodes.each_ref().map(|node| node.address).to_vec()));
    std::thread::spawn(move || balancer.serve(&listener));
    while !stop.load(Ordering::Relaxed) {
        sleep(TICK);
    }
    // The servers say goodbye to Redis before it ends.
    drop(nodes);
    drop(redis);
    Ok(())
}

fn build(project: &Project) -> Result<PathBuf, String> {
    let status = Command::new(cargo())
        .args(["build", "--package", "roomcast-cli"])
        .current_dir(&project.root)
        .status()
        .map_err(|error| format!("could not run cargo build: {error}"))?;
    if status.success() {
        Ok(project.target.join("debug/roomcast"))
    } else {
        Err("cargo build failed".into())
    }
}

/// Child process; it ends when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let deadline = Instant::now() + GRACE;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            sleep(TICK);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a Redis without files on a free port; returns its URL.
fn start_redis() -> Result<(Process, String), String> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|free| free.local_addr())
        .map_err(|error| format!("no free port: {error}"))?
        .port();
    let started = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()])
        .stdout(Stdio::null())
        // Ctrl-C in the terminal reaches this process only.
        .process_group(0)
        .spawn();
    let mut process = match started {
        Ok(child) => Process(child),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(
                "no redis-server; install it (apt-get install redis-server), or name one with --redis".into(),
            );
        }
        Err(error) => return Err(format!("cannot start redis-server: {error}")),
    };
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if let Ok(Some(status)) = process.0.try_wait() {
            return Err(format!("redis-server ended: {status}"));
        }
        if Instant::now() > deadline {
            return Err("redis-server does not listen".into());
        }
        sleep(TICK);
    }
    Ok((process, format!("redis://127.0.0.1:{port}")))
}

/// Server with its addresses.
struct Node {
    process: Process,
    address: SocketAddr,
    metrics: String,
}

impl Node {
    fn start(program: &Path, redis: &str) -> Result<Self, String> {
        let child = Command::new(program)
            .args(["serve", "--addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"])
            .args(["--trusted-proxy", "127.0.0.1"])
            // Not by a flag, since it may hold a password.
            .env("ROOMCAST_REDIS", redis)
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let mut process = Process(child);
        let stdout = process.0.stdout.take().ok_or("no output of the server")?;
        let mut lines = BufReader::new(stdout).lines();
        let (mut address, mut metrics) = (None, None);
        while address.is_none() || metrics.is_none() {
            let Some(Ok(line)) = lines.next() else {
                return Err("the server ended before it printed its address".into());
            };
            let Some((name, rest)) = line.trim().split_once("http://") else { continue };
            let url = rest.split_whitespace().next().unwrap_or_default();
            match name.trim() {
                "Roomcast is listening on" => address = url.parse().ok(),
                "metrics" => metrics = Some(format!("http://{url}")),
                _ => {}
            }
        }
        // The rest of its output must not block it.
        std::thread::spawn(move || lines.for_each(drop));
        match (address, metrics) {
            (Some(address), Some(metrics)) => Ok(Self { process, address, metrics }),
            _ => Err("the server printed no address".into()),
        }
    }
}

const TICK: Duration = Duration::from_millis(20);
const GRACE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(10);
