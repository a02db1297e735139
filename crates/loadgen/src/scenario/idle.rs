use std::time::Duration;

use super::Watch;
use super::client_pool::ClientPool;
use super::meter::{Reading, server_memory};
use super::settings::Settings;
use crate::kernel::KernelMemory;
use crate::process::now;
use crate::{Error, Failure, IdleReport, Report};

/// Connects all clients, holds them, and measures the server's CPU time and memory per client.
pub(super) fn run(settings: &Settings, watch: &mut dyn Watch, report: &mut Report) -> Result<(), Error> {
    let pid = settings.pid.ok_or_else(|| Error::Usage("--scenario idle requires --pid".into()))?;
    let base_rss_bytes = server_memory(pid)?;
    let base_kernel = KernelMemory::read();
    let start = Reading::take(Some(pid))?;
    let mut client_pool = ClientPool::connect(settings, watch)?;
    report.failure = Some(Failure::Load);
    let connect_s = client_pool.clock() as f64 / 1e9;
    hold(&mut client_pool, SETTLE, settings, watch)?;
    let connected = Reading::take(Some(pid))?;
    let memory = server_memory(pid)?;
    let kernel = base_kernel.zip(KernelMemory::read());
    let heartbeats_before = client_pool.heartbeats();
    let before_idle = Reading::take(Some(pid))?;
    hold(&mut client_pool, settings.window, settings, watch)?;
    let end = Reading::take(Some(pid))?;

    let micros = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64() * 1e6;
    let clients = settings.clients as f64;
    let connecting = start.until(&connected, settings.exact)?;
    let idle = before_idle.until(&end, settings.exact)?;
    let heartbeats = client_pool.heartbeats() - heartbeats_before;
    let kernel_bytes = kernel.and_then(|(before, after)| after.bytes_since(before));
    connecting.report(report);
    report.idle = Some(IdleReport {
        cpu_us_per_connection: micros(connecting.server) / clients,
        rss_bytes_per_connection: (memory as f64 - base_rss_bytes as f64) / clients,
        base_rss_bytes,
        cpu_us_per_idle_second: micros(idle.server) / idle.wall.as_secs_f64(),
        connect_s,
        resumed: client_pool.resumed(),
        heartbeats,
        cpu_us_per_heartbeat: (heartbeats > 0).then(|| micros(idle.server) / heartbeats as f64),
        kernel_bytes_per_connection: kernel_bytes.map(|bytes| bytes / clients),
        kernel_source: kernel.map(|(_, after)| after.source),
        sockets_per_connection: kernel
            .and_then(|(before, after)| after.sockets_since(before))
            .map(|it| it / clients),
    });
    if settings.gentle {
        client_pool.send_close();
    }
    Ok(())
}

/// Keeps the connections open: answers heartbeats and detects closed connections.
fn hold(
    client_pool: &mut ClientPool,
    time: Duration,
    settings: &Settings,
    watch: &dyn Watch,
) -> Result<(), Error> {
    let end = now() + time;
    while now() < end && !watch.stopped() {
        client_pool.turn(settings.patience(), &mut |_, _, _| ())?;
    }
    Ok(())
}

/// Time for the server to finish its work after the last client is ready.
const SETTLE: Duration = Duration::from_millis(300);
