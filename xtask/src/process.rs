//! Child processes that end with the step that started them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// End of a command.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Exited.
    With(ExitStatus),
    /// Stopped at its time limit.
    TooLate,
    /// Stopped by a signal to xtask.
    Interrupted,
}

/// Runs a command to its end; stops its process group at the time limit or when `interrupted` is set.
///
/// The command and its children have `mark` in their environment, for [`sweep`].
pub(crate) fn run(
    command: &mut Command,
    mark: &str,
    limit: Duration,
    interrupted: &AtomicBool,
) -> io::Result<Ended> {
    // In a separate process group, signals reach all children, and Ctrl-C in the terminal only this process.
    let mut child = command.env(MARK, mark).process_group(0).spawn()?;
    let deadline = Instant::now() + limit;
    let ended = loop {
        if let Some(status) = child.try_wait()? {
            break Ended::With(status);
        }
        if interrupted.load(Ordering::Relaxed) {
            break Ended::Interrupted;
        }
        if Instant::now() > deadline {
            break Ended::TooLate;
        }
        sleep(TICK);
    };
    if !matches!(ended, Ended::With(_)) {
        stop(&mut child)?;
    }
    Ok(ended)
}

/// Runs a command that has no time limit; its failure is an error.
pub(crate) fn succeed(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

/// Kills remaining processes with this mark; returns their pids and names.
///
/// Processes get a moment to exit first. Without `/proc` it finds none.
pub(crate) fn sweep(mark: &str) -> BTreeMap<i32, String> {
    let deadline = Instant::now() + GRACE;
    while !leftovers(mark).is_empty() && Instant::now() < deadline {
        sleep(TICK);
    }
    let found = leftovers(mark);
    for pid in found.keys().copied().filter_map(Pid::from_raw) {
        // The process may have exited in between.
        let _ = kill_process(pid, Signal::KILL);
    }
    found
}

/// Sends SIGTERM, so that test runners and browsers can clean up, then SIGKILL.
fn stop(child: &mut Child) -> io::Result<()> {
    let group = Pid::from_child(child);
    // Fails only if the whole group has exited.
    let _ = kill_process_group(group, Signal::TERM);
    let deadline = Instant::now() + GRACE;
    while child.try_wait()?.is_none() && Instant::now() < deadline {
        sleep(TICK);
    }
    let _ = kill_process_group(group, Signal::KILL);
    child.wait()?;
    Ok(())
}

/// Finds processes with this mark in their environment, also outside the group, as with browsers.
fn leftovers(mark: &str) -> BTreeMap<i32, String> {
    let wanted = format!("{MARK}={mark}");
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        // Empty for zombies, unreadable for processes of other users.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    })
    .map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        (pid, name.trim().to_owned())
    })
    .collect()
}

const MARK: &str = "ROOMCAST_XTASK_RUN";
const TICK: Duration = Duration::from_millis(50);
const GRACE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::env;
    use std::path::PathBuf;
    use std::process;
    use std::thread;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn stops_command_with_its_children() {
        let calm = AtomicBool::new(false);
        let long = Duration::from_secs(10);
        let ended = run(&mut shell("exit 3"), "test-exit", long, &calm).unwrap();
        assert!(matches!(ended, Ended::With(status) if status.code() == Some(3)));

        let ended = run(&mut shell("sleep 60"), "test-late", Duration::from_millis(300), &calm).unwrap();
        assert!(matches!(ended, Ended::TooLate));

        let note = Note::new("stopped");
        let sleeper = format!("sleep 60 & echo $! > {}; wait", note.path.display());
        let interrupted = AtomicBool::new(false);
        let ended = thread::scope(|scope| {
            scope.spawn(|| {
                note.until(|it| it.names_a_living_process());
                interrupted.store(true, Ordering::Relaxed);
            });
            run(&mut shell(&sleeper), "test-interrupt", long * 6, &interrupted).unwrap()
        });
        assert!(matches!(ended, Ended::Interrupted));
        note.until(|it| !it.names_a_living_process());
    }

    // Other systems have no /proc.
    #[cfg(target_os = "linux")]
    #[test]
    fn sweeps_leftover_processes() {
        let calm = AtomicBool::new(false);
        let mark = format!("test-sweep-{}", process::id());
        let note = Note::new("swept");
        // The process has its name only after `exec`.
        let script = format!(
            "setsid sleep 60 & echo $! > {}; until grep -q sleep /proc/$!/comm; do :; done",
            note.path.display()
        );
        let ended = run(&mut shell(&script), &mark, Duration::from_secs(10), &calm).unwrap();
        assert!(matches!(ended, Ended::With(status) if status.success()));
        assert!(note.names_a_living_process());
        assert!(sweep("another mark").is_empty());
        assert_eq!(sweep(&mark).into_values().collect::<Vec<_>>(), ["sleep"]);
        note.until(|it| !it.names_a_living_process());
    }

    /// File that a script writes a pid to.
    struct Note {
        path: PathBuf,
    }

    impl Note {
        fn new(name: &str) -> Self {
            Self { path: env::temp_dir().join(format!("roomcast-xtask-{}-{name}", process::id())) }
        }

        /// Waits for a condition, since signals take effect asynchronously.
        fn until(&self, condition: impl Fn(&Self) -> bool) {
            let deadline = Instant::now() + Duration::from_secs(30);
            while !condition(self) {
                assert!(Instant::now() < deadline, "condition not met in time");
                sleep(TICK);
            }
        }

        fn names_a_living_process(&self) -> bool {
            let pid = fs::read_to_string(&self.path).unwrap_or_default();
            if pid.trim().is_empty() {
                return false;
            }
            // A zombie process has no command line.
            fs::read(format!("/proc/{}/cmdline", pid.trim())).is_ok_and(|line| !line.is_empty())
        }
    }

    impl Drop for Note {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
