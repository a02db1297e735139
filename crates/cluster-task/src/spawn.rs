//! Threads of tasks.

use std::future::Future;
use std::io;

/// Runs a task on a separate thread, which ends with it; `task` creates it in the thread's runtime.
///
/// For servers that start their runtimes later than their cluster.
///
/// # Errors
/// Returns an error if the thread or its runtime cannot be started.
#[expect(clippy::disallowed_methods, reason = "the thread has a runtime of its own")]
pub fn spawn_thread<F>(task: impl FnOnce() -> F + Send + 'static) -> io::Result<()>
where
    F: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = move || runtime.block_on(async { task().await });
    std::thread::Builder::new().name("roomcast-cluster".into()).spawn(run)?;
    Ok(())
}
