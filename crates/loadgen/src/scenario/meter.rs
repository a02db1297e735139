use std::time::Duration;

use crate::error::ErrorContext as _;
use crate::process::{CpuTime, MachineTime, now, own_cpu_time, resident_bytes, thread_demand};
use crate::{Error, Report};

/// Reading of the CPU clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    at: Duration,
    own: Duration,
    /// Time in which this thread ran or waited for a CPU, if known.
    demand: Option<Duration>,
    server: Option<CpuTime>,
    machine: MachineTime,
}

/// Difference between two readings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    pub(super) wall: Duration,
    pub(super) server: Option<Duration>,
    own: Duration,
    demand: Option<Duration>,
    idle: Duration,
    stolen: Duration,
    cpus: u32,
}

impl Reading {
    pub(super) fn take(server: Option<u32>) -> Result<Self, Error> {
        let machine = MachineTime::read().doing(|| "read /proc/stat".into())?;
        let server = server.map(server_cpu_time).transpose()?;
        // Some systems do not measure it; then the CPU time has to do.
        let demand = thread_demand().ok();
        Ok(Self { at: now(), own: own_cpu_time(), demand, server, machine })
    }

    /// Returns the time spent until a later reading.
    ///
    /// If threads of the server ended in between, its CPU time is coarse, or an error with `exact`.
    pub(super) fn until(&self, later: &Self, exact: bool) -> Result<Spent, Error> {
        let server = match self.server.zip(later.server) {
            Some((before, after)) => Some(match after.since(before) {
                Some(time) => time,
                None if exact => return Err(threads_ended()),
                None => after.since_roughly(before),
            }),
            None => None,
        };
        Ok(Spent {
            wall: later.at - self.at,
            server,
            own: later.own - self.own,
            demand: self.demand.zip(later.demand).map(|(before, after)| after.saturating_sub(before)),
            idle: later.machine.idle.saturating_sub(self.machine.idle),
            stolen: later.machine.stolen.saturating_sub(self.machine.stolen),
            cpus: self.machine.cpus,
        })
    }
}

impl Spent {
    /// Returns the share of time in which this thread had work: it ran or waited for a CPU.
    pub(super) fn busy(&self) -> f64 {
        let demand = self.demand.unwrap_or(self.own);
        (demand.as_secs_f64() / self.wall.as_secs_f64()).min(1.0)
    }

    /// Writes the busy cores of each process to the report.
    pub(super) fn report(&self, report: &mut Report) {
        let cores = |time: Duration| time.as_secs_f64() / self.wall.as_secs_f64();
        report.server_cores = self.server.map(cores);
        report.generator_cores = cores(self.own);
        report.stolen_cores = cores(self.stolen);
        report.foreign_cores = self.server.map(|server| {
            let known = self.idle + self.stolen + self.own + server;
            cores((self.wall * self.cpus).saturating_sub(known))
        });
    }
}

/// Returns the resident memory of the server in bytes.
pub(super) fn server_memory(pid: u32) -> Result<u64, Error> {
    resident_bytes(pid).doing(|| format!("read the memory of process {pid}"))
}

fn threads_ended() -> Error {
    Error::Server("threads ended during the measurement, so the CPU time is unknown".into())
}

fn server_cpu_time(pid: u32) -> Result<CpuTime, Error> {
    CpuTime::of(pid).doing(|| format!("read the CPU time of process {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_remaining_time_to_foreign_cores() {
        let seconds = Duration::from_secs;
        let spent = Spent {
            wall: seconds(10),
            server: Some(seconds(6)),
            own: seconds(10),
            demand: Some(seconds(9)),
            idle: seconds(2),
            stolen: seconds(1),
            cpus: 2,
        };
        let mut report = Report::default();
        spent.report(&mut report);
        assert_eq!(report.server_cores, Some(0.6));
        assert_eq!((report.generator_cores, report.stolen_cores), (1.0, 0.1));
        assert_eq!(report.foreign_cores, Some(0.1));
        assert_eq!(spent.busy(), 0.9);
        assert_eq!(Spent { demand: None, ..spent }.busy(), 1.0);
    }
}
