use std::time::Duration;

use super::Watch;
use super::meter::{Reading, server_memory};
use super::settings::Settings;
use super::swarm::Swarm;
use crate::process::now;
use crate::{Error, IdleReport, Report};

/// Connects all clients, holds them, and measures the server's CPU time and memory per client.
pub(super) fn run(settings: &Settings, watch: &mut dyn Watch, report: &mut Report) -> Result<(), Error> {
    let pid = settings.pid.ok_or_else(|| Error::Usage("--scenario idle requires --pid".into()))?;
    let base_rss_bytes = server_memory(pid)?;
    let start = Reading::take(Some(pid))?;
    let mut swarm = Swarm::connect(settings, watch)?;
    let connect_s = swarm.clock() as f64 / 1e9;
    hold(&mut swarm, SETTLE, settings, watch)?;
    let connected = Reading::take(Some(pid))?;
    let memory = server_memory(pid)?;
    let before_idle = Reading::take(Some(pid))?;
    hold(&mut swarm, settings.window, settings, watch)?;
    let end = Reading::take(Some(pid))?;

    let micros = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64() * 1e6;
    let clients = settings.clients as f64;
    let connecting = start.until(&connected, settings.exact)?;
    let idle = before_idle.until(&end, settings.exact)?;
    connecting.report(report);
    report.idle = Some(IdleReport {
        cpu_us_per_connection: micros(connecting.server) / clients,
        rss_bytes_per_connection: (memory as f64 - base_rss_bytes as f64) / clients,
        base_rss_bytes,
        cpu_us_per_idle_second: micros(idle.server) / idle.wall.as_secs_f64(),
        connect_s,
    });
    if settings.gentle {
        swarm.say_goodbye();
    }
    Ok(())
}

/// Keeps the connections open: answers heartbeats and detects closed connections.
fn hold(swarm: &mut Swarm, time: Duration, settings: &Settings, watch: &dyn Watch) -> Result<(), Error> {
    let end = now() + time;
    while now() < end && !watch.stopped() {
        swarm.turn(settings.patience(), &mut |_, _, _| ())?;
    }
    Ok(())
}

/// Time for the server to finish its work after the last client is ready.
const SETTLE: Duration = Duration::from_millis(300);
