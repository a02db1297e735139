use std::env;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::thread::CpuSet;

use super::child::{Running, free_port};
use super::contender::Family;
use super::load::Rate;
use super::{Contender, Load, Options, cluster, latency};
use roomcast_loadgen::ErrorContext as _;
use roomcast_loadgen::process::{allowed_cpus, only_cpu};
use roomcast_loadgen::{Error, Failure, Report};

/// Settings shared by all runs.
pub(super) struct Trials {
    loadgen: PathBuf,
    server_cpu: CpuSet,
    load_cpu: usize,
    /// CPUs of servers with several threads.
    free_cpus: CpuSet,
    /// Whether these leave a CPU for the load generator.
    spare_cpu: bool,
    /// CPUs of this program.
    own_cpus: CpuSet,
    warmup: Duration,
    window: Duration,
}

impl Trials {
    pub(super) fn new(options: &Options) -> Result<Self, Error> {
        let own_cpus = allowed_cpus().doing(|| "read the allowed CPUs".into())?;
        for cpu in [options.server_cpu, options.load_cpu] {
            if cpu >= CpuSet::MAX_CPU || !own_cpus.is_set(cpu) {
                return Err(Error::Usage(format!(
                    "CPU {cpu} does not exist or is not allowed; choose with --server-cpu and --load-cpu"
                )));
            }
        }
        if options.server_cpu == options.load_cpu {
            return Err(Error::Usage("--server-cpu and --load-cpu must differ".into()));
        }
        let loadgen =
            env::current_exe().doing(|| "find the path of this program".into())?.with_file_name("loadgen");
        if !loadgen.is_file() {
            let loadgen = loadgen.display();
            return Err(Error::Usage(format!(
                "no file {loadgen}; build it with `cargo build --profile dist -p roomcast-compare`"
            )));
        }
        let mut free_cpus = own_cpus;
        let spare_cpu = own_cpus.count() > 2;
        if spare_cpu {
            free_cpus.unset(options.load_cpu);
        }
        Ok(Self {
            loadgen,
            free_cpus,
            spare_cpu,
            server_cpu: only_cpu(options.server_cpu).doing(|| "select the server's CPU".into())?,
            load_cpu: options.load_cpu,
            own_cpus,
            warmup: options.warmup,
            window: options.window,
        })
    }
}

/// Run of a server process under a load.
pub(super) struct Trial<'a> {
    pub(super) trials: &'a Trials,
    pub(super) load: &'a Load,
    pub(super) contender: &'a Contender,
    /// Lowest capacity among the servers, in messages per second, for loads at a share of it.
    pub(super) lowest_capacity: Option<f64>,
}

impl Trial<'_> {
    /// Runs the load and returns the load generator's report.
    ///
    /// # Errors
    ///
    /// Fails if a program cannot be started. Failures of the server are part of the report.
    pub(super) fn run(&self) -> Result<Report, Error> {
        if let Some(load) = self.load.cluster {
            return self.run_cluster(load);
        }
        let short = self.trials.window < SHORT_WINDOW;
        match self.load.rate {
            None | Some(Rate::All) => self.run_once(self.window(), None),
            Some(Rate::Capacity) => {
                latency::find_capacity(short, |rate, window| self.run_once(window, Some(rate)))
            }
            Some(Rate::Share(percent)) => {
                let Some(capacity) = self.lowest_capacity else {
                    return Ok(self.failed("no capacity was measured; run latency-capacity before".into()));
                };
                let rate = capacity * f64::from(percent) / 100.0;
                self.run_once(latency::window(short), Some(rate)).map(latency::counted)
            }
        }
    }

    /// Runs a cluster; its faults are part of the report.
    fn run_cluster(&self, load: cluster::ClusterLoad) -> Result<Report, Error> {
        let Trials { server_cpu, load_cpu, own_cpus, warmup, window, .. } = *self.trials;
        let load_cpu = only_cpu(load_cpu).doing(|| "select the CPU of the load".into())?;
        let bench = cluster::Bench {
            load,
            bytes: self.load.payload,
            program: self.contender.program(),
            arguments: self.contender.cluster_arguments(),
            is_bare: self.contender.family() == Family::BareClient,
            server_cpu,
            load_cpu,
            own_cpus,
            warmup,
            window,
        };
        let base = self.failed(String::new());
        let base = Report { error: None, failure: None, window_s: window.as_secs_f64(), ..base };
        Ok(match bench.run() {
            Ok(measured) => Report { ok: true, ..measured.report(base) },
            Err(error) => self.failed(error.to_string()),
        })
    }

    /// Starts the server and the load generator.
    fn run_once(&self, window: Duration, rate: Option<f64>) -> Result<Report, Error> {
        let port = free_port().doing(|| "find a free port".into())?;
        let mut server = self.start_server(port)?;
        let report = match server.wait_until_it_accepts(port) {
            Ok(()) => self.put_load_on(&server, port, window, rate)?,
            Err(problem) => self.failed(problem),
        };
        Ok(report)
    }

    fn start_server(&self, port: u16) -> Result<Running, Error> {
        let mut command = Command::new(self.contender.program());
        command.args(self.contender.arguments(self.load, port)).stdin(Stdio::null()).stdout(Stdio::null());
        let cpus = if self.load.free { &self.trials.free_cpus } else { &self.trials.server_cpu };
        Running::start(&mut command, cpus, &self.trials.own_cpus)
    }

    /// Returns the time to measure: with heartbeats at least one interval between them.
    fn window(&self) -> Duration {
        let window = self.trials.window;
        if self.load.heartbeats { heartbeat_window(window) } else { window }
    }

    fn put_load_on(
        &self,
        server: &Running,
        port: u16,
        window: Duration,
        rate: Option<f64>,
    ) -> Result<Report, Error> {
        let Trials { loadgen, load_cpu, warmup, .. } = self.trials;
        let mut command = Command::new(loadgen);
        let mut option = |name: &str, value: &str| _ = command.args([name, value]);
        option("--port", &port.to_string());
        option("--pid", &server.0.id().to_string());
        option("--scenario", &self.load.scenario.name());
        option("--kind", &self.contender.kind(self.load).name());
        option("--clients", &self.load.clients.to_string());
        option("--payload", &self.load.payload.to_string());
        option("--warmup", &warmup.as_secs_f64().to_string());
        option("--window", &window.as_secs_f64().to_string());
        // With only two CPUs, a busy-polling generator would leave one CPU for a server with two threads.
        let own_cpu = !self.load.free || self.trials.spare_cpu;
        if own_cpu {
            option("--cpu", &load_cpu.to_string());
        }
        if let Some(rate) = rate {
            option("--rate", &rate.to_string());
        }
        if let Some(habit) = self.load.habit {
            option("--habit", &habit.name());
        }
        if let Some(path) = self.contender.path(self.load) {
            option("--path", path);
        }
        if own_cpu {
            command.arg("--spin");
        }
        if self.load.text {
            command.arg("--records");
        }
        if self.contender.compresses(self.load) {
            command.arg("--deflate");
        }
        if self.contender.encrypts() {
            command.arg("--tls");
        }
        if self.contender.resumes() {
            command.arg("--resume");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut generator = Running(command.spawn().doing(|| format!("start {}", loadgen.display()))?);
        if !generator
            .ends_within(*warmup + window + OVERTIME)
            .doing(|| "wait for the load generator".into())?
        {
            return Ok(self.failed("the load generator timed out".into()));
        }
        let mut line = String::new();
        if let Some(mut output) = generator.0.stdout.take() {
            output.read_to_string(&mut line).doing(|| "read from the load generator".into())?;
        }
        // Without a report, it has printed an error to standard error.
        let report: Result<Report, _> = serde_json::from_str(&line);
        let mut report = report.map_err(|_| Error::Usage("no report from the load generator".into()))?;
        if rate.is_none() {
            // It is as large as the rest of the record, and only latencies at a fixed rate are of interest.
            report.histogram = None;
        }
        Ok(report)
    }

    fn failed(&self, problem: String) -> Report {
        Report {
            error: Some(problem),
            failure: Some(Failure::Unreachable),
            scenario: self.load.scenario.name(),
            kind: self.contender.kind(self.load).name(),
            clients: self.load.clients,
            payload: self.load.payload,
            ..Report::default()
        }
    }
}

/// Returns the time to measure heartbeats: at least one interval between them.
pub(super) fn heartbeat_window(window: Duration) -> Duration {
    // A heartbeat of each connection has ended before the window or within it.
    let intervals = if window < SHORT_WINDOW { 1 } else { 2 };
    PING_INTERVAL * intervals + SPARE_INTERVAL
}

/// Interval between heartbeats of a connection where they are measured.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(2);
const SPARE_INTERVAL: Duration = Duration::from_millis(200);
/// Window of a smoke test.
pub(super) const SHORT_WINDOW: Duration = Duration::from_millis(500);
/// Time for connecting, draining and stalls, besides the load.
const OVERTIME: Duration = Duration::from_secs(60);
