//! Signals: shutdown and SIGHUP.

use std::future::Future;
use std::io;

use tokio::sync::oneshot;

/// Resolves at the first SIGTERM or SIGINT; the second exits at once with 128 plus the signal number.
///
/// A dedicated thread waits for signals, so the second one works even if the runtime hangs.
#[cfg(unix)]
#[expect(clippy::disallowed_methods, reason = "a dedicated thread waits for signals")]
pub(crate) fn stop() -> io::Result<impl Future<Output = ()>> {
    use signal_hook::consts::{SIGINT, SIGTERM};

    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let (tell, told) = oneshot::channel();
    std::thread::Builder::new().name("roomcast-signals".into()).spawn(move || {
        let mut arriving = signals.forever();
        if arriving.next().is_some() {
            tracing::info!("stopping; a second signal exits at once");
            // A dropped receiver means that shutdown has begun.
            let _ = tell.send(());
        }
        if let Some(signal) = arriving.next() {
            std::process::exit(128 + signal);
        }
    })?;
    Ok(async {
        let _ = told.await;
    })
}

/// Calls the function on each SIGHUP, which by default would end the process.
#[cfg(unix)]
#[expect(clippy::disallowed_methods, reason = "a dedicated thread waits for signals")]
pub(crate) fn on_hangup(heard: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGHUP])?;
    let wait = move || signals.forever().for_each(|_| heard());
    std::thread::Builder::new().name("roomcast-hangup".into()).spawn(wait).map(drop)
}

/// Does nothing: SIGHUP exists only on Unix.
#[cfg(not(unix))]
pub(crate) fn on_hangup(_: impl Fn() + Send + 'static) -> io::Result<()> {
    Ok(())
}

/// Resolves at the first Ctrl-C; the second exits at once.
#[cfg(not(unix))]
pub(crate) fn stop() -> io::Result<impl Future<Output = ()>> {
    let (tell, told) = oneshot::channel();
    Ok(async move {
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                tracing::info!("stopping; a second Ctrl-C exits at once");
                let _ = tell.send(());
            }
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(130);
            }
        });
        let _ = told.await;
    })
}
