//! Checks the shell and JavaScript code of the pages.
//!
//! Every block in the language `sh` is parsed by bash, and the flags of every `roomcast` command are parsed by the
//! command itself. Blocks marked `sh,run` are executed as well, in one shell per page, so a server that one block
//! starts in the background serves the next. Blocks in the language `js` are parsed by Node, if it is installed.

use std::env;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use roomcast_book::code::{self, Block};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::Problems;
use crate::pages;

/// Values of the variables and the command from which the pages take process ids.
const PROCESS_IDS: &str = "PID=1; server=1; pgrep() { echo 1; }";

/// Time limit of a page, in seconds.
const LIMIT: u32 = 120;

/// Checks all pages; returns a summary.
pub(crate) fn check(root: &Path, bin_dir: &Path) -> Result<String, Problems> {
    let bin_dir = bin_dir.canonicalize()?;
    if !bin_dir.join("roomcast").is_file() {
        return Err(format!("no command `roomcast` in {}; build it first", bin_dir.display()).into());
    }
    let (mut blocks, mut commands, mut run, mut scripts, mut problems) = (0, 0, 0, 0, Vec::new());
    let has_node = Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success());
    for file in pages::files(root)? {
        let page = format!("docs/{}", file.display());
        let text = fs::read_to_string(root.join("docs").join(&file))?;
        for script in code_blocks(&text, "js").iter().filter(|_| has_node) {
            scripts += 1;
            if let Err(error) = parse_javascript(&script.code) {
                problems.push(format!("{page}: {error}"));
            }
        }
        let found = code_blocks(&text, "sh");
        for block in &found {
            blocks += 1;
            if let Err(error) = bash(&bin_dir, &["-n"], &block.code) {
                problems.push(format!("{page}: {error}"));
            }
            for command in roomcast_commands(&block.code) {
                commands += 1;
                // clap parses the flags before it prints the help.
                if let Err(error) =
                    bash(&bin_dir, &[], &format!("{PROCESS_IDS}; {command} --help > /dev/null"))
                {
                    problems.push(format!("{page}: {command}: {error}"));
                }
            }
        }
        let script: String =
            found.iter().filter(|block| block.is_marked("run")).map(|block| block.code.as_str()).collect();
        if !script.is_empty() {
            run += 1;
            if let Err(error) = execute(&bin_dir, &script) {
                problems.push(format!("{page}: {error}"));
            }
        }
    }
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let node = if has_node { "" } else { " (no node)" };
    Ok(format!(
        "{blocks} blocks of shell code, {commands} commands of roomcast, {run} pages executed, {scripts} blocks of \
         JavaScript{node}"
    ))
}

/// Returns the code blocks of a page in a language.
fn code_blocks(text: &str, language: &str) -> Vec<Block> {
    code::blocks(text).into_iter().filter(|block| block.language() == language).collect()
}

/// Parses a block as a module, without running it.
fn parse_javascript(code: &str) -> Result<(), String> {
    let file = env::temp_dir().join(format!("roomcast-book-{}.mjs", std::process::id()));
    fs::write(&file, code).map_err(|error| error.to_string())?;
    let mut command = Command::new("node");
    command.arg("--check").arg(&file);
    let result = finish(command, "");
    let _ = fs::remove_file(&file);
    result
}

/// Returns the commands of a block that call `roomcast`, without redirections and what follows them.
fn roomcast_commands(code: &str) -> Vec<String> {
    let joined = code.replace("\\\n", " ");
    let commands = joined.lines().filter_map(|line| {
        let line = line.split(" #").next().unwrap_or_default();
        let end = [" &", " |", " ;", " >", " 2>"].iter().filter_map(|end| line.find(end)).min();
        line[..end.unwrap_or(line.len())].trim().strip_prefix("roomcast ")
    });
    commands.map(|arguments| format!("roomcast {arguments}")).collect()
}

fn bash(bin_dir: &Path, options: &[&str], script: &str) -> Result<(), String> {
    let mut command = Command::new("bash");
    command.args(options).env("PATH", path(bin_dir));
    finish(command, script)
}

/// Executes the blocks of a page in an empty folder, and stops all processes that they have started.
fn execute(bin_dir: &Path, script: &str) -> Result<(), String> {
    let folder = env::temp_dir().join(format!("roomcast-book-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let script = with_free_ports(script).map_err(|error| error.to_string())?;
    let mut command = Command::new("timeout");
    command.args(["--foreground", &LIMIT.to_string(), "bash", "-euo", "pipefail"]);
    command.current_dir(&folder).env("PATH", path(bin_dir)).process_group(0);
    let result = finish(command, &script);
    let _ = fs::remove_dir_all(&folder);
    result
}

/// Replaces the ports of the pages, which other programs may use.
fn with_free_ports(script: &str) -> std::io::Result<String> {
    // Both are bound at the same time, so that they differ.
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let mut script = script.to_owned();
    for (port, listener) in [":3000", ":9464"].into_iter().zip(&listeners) {
        script = script.replace(port, &format!(":{}", listener.local_addr()?.port()));
    }
    Ok(script)
}

/// Runs a command with a script as its input, then stops its process group if it has one.
fn finish(mut command: Command, script: &str) -> Result<(), String> {
    let grouped = command.get_current_dir().is_some();
    // Files instead of pipes: a server in the background keeps them open.
    let log = env::temp_dir().join(format!("roomcast-book-{}.log", std::process::id()));
    let file = fs::File::create(&log).map_err(|error| error.to_string())?;
    let errors = file.try_clone().map_err(|error| error.to_string())?;
    command.stdin(Stdio::piped()).stdout(file).stderr(errors);
    let mut child = command.spawn().map_err(|error| format!("cannot start bash: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        // bash may end before it has read everything.
        let _ = input.write_all(script.as_bytes());
    }
    let status = child.wait();
    if grouped && let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // The group is empty if nothing runs in the background.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let output = fs::read_to_string(&log).unwrap_or_default();
    let _ = fs::remove_file(&log);
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{status}\n{output}")),
        Err(error) => Err(error.to_string()),
    }
}

fn path(bin_dir: &Path) -> std::ffi::OsString {
    let old = env::var_os("PATH").unwrap_or_default();
    env::join_paths([bin_dir.to_owned()].into_iter().chain(env::split_paths(&old))).unwrap_or(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_commands_with_continued_lines() {
        let code = "roomcast serve \\\n  --threads 2 & # two\ncurl x\nroomcast --addr :1 2> log\n";
        assert_eq!(roomcast_commands(code), ["roomcast serve    --threads 2", "roomcast --addr :1"]);
    }
}
