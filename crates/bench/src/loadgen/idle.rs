use std::time::Duration;

use super::Options;
use super::meter::{Reading, server_memory};
use super::swarm::Swarm;
use crate::process::now;
use crate::{Error, IdleReport, Report};

/// Connects all clients, holds them, and charges the server's CPU and memory to each
pub(super) fn run(options: &Options, report: &mut Report) -> Result<(), Error> {
    let pid = options.pid.ok_or_else(|| Error::Usage("idle needs --pid, it measures nothing else".into()))?;
    let base_rss_bytes = server_memory(pid)?;
    let start = Reading::take(Some(pid))?;
    let mut swarm = Swarm::connect(options)?;
    let connect_s = swarm.clock() as f64 / 1e9;
    hold(&mut swarm, SETTLE, options)?;
    let connected = Reading::take(Some(pid))?;
    let memory = server_memory(pid)?;
    let before_idle = Reading::take(Some(pid))?;
    hold(&mut swarm, options.window, options)?;
    let end = Reading::take(Some(pid))?;

    let micros = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64() * 1e6;
    let clients = options.clients() as f64;
    let connecting = start.until(&connected)?;
    let idle = before_idle.until(&end)?;
    connecting.report(report);
    report.idle = Some(IdleReport {
        cpu_us_per_connection: micros(connecting.server) / clients,
        rss_bytes_per_connection: (memory as f64 - base_rss_bytes as f64) / clients,
        base_rss_bytes,
        cpu_us_per_idle_second: micros(idle.server) / idle.wall.as_secs_f64(),
        connect_s,
    });
    Ok(())
}

/// Answers what the server asks, and sees if it closes a connection
fn hold(swarm: &mut Swarm, time: Duration, options: &Options) -> Result<(), Error> {
    let end = now() + time;
    while now() < end {
        swarm.turn(options.patience(), &mut |_, _, _| ())?;
    }
    Ok(())
}

/// The server may have work left when the last client is ready
const SETTLE: Duration = Duration::from_millis(300);
