//! Prerequisites of a step besides Rust: found, installed, or reported as missing.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::geteuid;

use crate::debian_archive;

/// Prerequisite outside the Rust toolchain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prerequisite {
    /// Node with npm, for the JavaScript clients.
    Node,
    /// Chromium for playwright.
    Chromium,
    /// Python with venv, for the Python clients.
    Python,
    /// Python 2.7 with headers and a C compiler, for the Autobahn testsuite.
    Python2,
    /// Valgrind, to count instructions.
    Valgrind,
    /// nginx, HAProxy and Caddy.
    Proxies,
    /// Redis with its sentinel, for the message engine of clusters.
    Redis,
    /// OpenSSL headers, for the Rust client.
    OpenSsl,
}

/// Missing prerequisite, with a remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) reason: String,
    pub(crate) remedy: String,
}

impl Prerequisite {
    /// Finds the prerequisite, installing it if allowed; returns environment variables for the steps.
    ///
    /// `run` runs a command with its output in the step's log and returns whether it succeeded.
    pub(crate) fn ensure(
        self,
        install: bool,
        mut run: impl FnMut(Command) -> bool,
    ) -> Result<Vec<(&'static str, OsString)>, Missing> {
        let Err(reason) = self.find() else { return Ok(self.variables()) };
        let packages = self.packages();
        let remedy = match self {
            Self::Python2 => "cargo xtask test --install, which uses Debian bullseye".to_owned(),
            _ => format!("apt-get install {}, or cargo xtask test --install", packages.join(" ")),
        };
        let missing = |reason: String| Missing { reason, remedy: remedy.clone() };
        let root = geteuid().is_root();
        let may_install = install || root && on_debian();
        if !may_install {
            return Err(missing(reason));
        }
        if found("apt-get").is_none() {
            return Err(Missing {
                reason: format!("{reason}, and no apt-get to install it"),
                remedy: format!("install {} manually", packages.join(" ")),
            });
        }
        println!("  {reason}: installing {}", packages.join(" "));
        let installed = match self {
            Self::Python2 => debian_archive::install(root, packages, &mut run),
            _ => {
                // Unreachable lists may not be needed.
                let _ = run(apt(root, &[], &["update"]));
                let install = [&["install", "--yes", "--no-install-recommends"], packages].concat();
                run(apt(root, &[], &install))
            }
        };
        match self.find() {
            Ok(()) => Ok(self.variables()),
            Err(reason) if installed => Err(missing(format!("{reason}, even after apt-get install"))),
            Err(reason) => Err(missing(format!("{reason}, and apt-get failed"))),
        }
    }

    fn find(self) -> Result<(), String> {
        match self {
            Self::Node => {
                let version = printed("node", &["--version"]).ok_or("no node")?;
                if !at_least(&version, OLDEST_NODE) {
                    let (major, minor) = OLDEST_NODE;
                    return Err(format!("node {version} is older than {major}.{minor}"));
                }
                printed("npm", &["--version"]).map(drop).ok_or_else(|| "no npm".into())
            }
            Self::Chromium => chromium().map(drop).ok_or_else(|| "no Chromium".into()),
            Self::Python => {
                printed("python3", &["--version"]).ok_or("no python3")?;
                let venv = printed("python3", &["-c", "import ensurepip, venv; print('here')"]);
                venv.map(drop).ok_or_else(|| "python3 has no venv".into())
            }
            Self::Python2 => {
                python2().ok_or("no python2.7 with its headers")?;
                printed("cc", &["--version"]).map(drop).ok_or_else(|| "no C compiler".into())
            }
            Self::Valgrind => {
                printed("valgrind", &["--version"]).map(drop).ok_or_else(|| "no valgrind".into())
            }
            Self::Proxies => {
                let missing = PROXIES.iter().find(|name| !is_server(name));
                missing.map_or(Ok(()), |name| Err(format!("no {name}")))
            }
            Self::Redis => {
                let missing = REDIS.iter().find(|name| !is_server(name));
                missing.map_or(Ok(()), |name| Err(format!("no {name}")))
            }
            Self::OpenSsl => {
                let found = printed("pkg-config", &["--exists", "openssl"]);
                found.map(drop).ok_or_else(|| "no OpenSSL headers found by pkg-config".into())
            }
        }
    }

    fn variables(self) -> Vec<(&'static str, OsString)> {
        match self {
            Self::Chromium => chromium().map(|path| ("ROOMCAST_CHROMIUM", path.into())).into_iter().collect(),
            Self::Python2 => python2().map(|path| (PYTHON2, path.into())).into_iter().collect(),
            Self::Node | Self::Python | Self::Valgrind | Self::Proxies | Self::Redis | Self::OpenSsl => {
                Vec::new()
            }
        }
    }

    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Node => &["nodejs", "npm"],
            Self::Chromium => &["chromium", "fonts-liberation"],
            Self::Python => &["python3", "python3-venv"],
            Self::Python2 => &["python2.7", "python2.7-dev", "gcc", "libc6-dev"],
            Self::Valgrind => &["valgrind"],
            Self::Proxies => &["nginx-light", "haproxy", "caddy"],
            Self::Redis => &["redis-server", "redis-sentinel"],
            Self::OpenSsl => &["libssl-dev", "pkg-config"],
        }
    }
}

const REDIS: [&str; 2] = ["redis-server", "redis-sentinel"];
const PROXIES: [&str; 3] = ["nginx", "haproxy", "caddy"];

/// Returns whether a server is installed; Debian installs servers in folders that are only on root's `PATH`.
fn is_server(program: &str) -> bool {
    found(program).is_some()
        || ["/usr/sbin", "/usr/local/sbin"].iter().any(|folder| Path::new(folder).join(program).is_file())
}

fn chromium() -> Option<PathBuf> {
    let chosen = env::var_os("ROOMCAST_CHROMIUM").map(PathBuf::from).filter(|path| path.is_file());
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    chosen.or_else(|| names.into_iter().find_map(found))
}

/// Returns the first Python 2.7 that works and has headers; a version manager's shim may not work.
fn python2() -> Option<PathBuf> {
    let headers =
        "import os, sysconfig; print(os.path.exists(sysconfig.get_config_var('INCLUDEPY') + '/Python.h'))";
    let folders = env::var_os("PATH")?;
    let mut all = env::split_paths(&folders).map(|folder| folder.join("python2.7"));
    all.find(|path| {
        path.to_str().and_then(|path| printed(path, &["-c", headers])).is_some_and(|it| it == "True")
    })
}

pub(crate) fn apt(root: bool, options: &[String], args: &[&str]) -> Command {
    let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
    if !root {
        // A password prompt would block unseen.
        command.args(["--non-interactive", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    }
    // Another process may be installing packages.
    command
        .args(["-o", "DPkg::Lock::Timeout=300"])
        .args(options)
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Returns whether this is Debian or a derivative such as Ubuntu.
fn on_debian() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let mut names = release.lines().filter(|line| line.starts_with("ID=") || line.starts_with("ID_LIKE="));
    names.any(|line| line.contains("debian"))
}

fn found(program: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Runs a program and returns its output, if it succeeds.
fn printed(program: &str, args: &[&str]) -> Option<String> {
    let Output { status, stdout, .. } = Command::new(program).args(args).output().ok()?;
    status.success().then(|| String::from_utf8_lossy(&stdout).trim().to_owned())
}

fn at_least(version: &str, oldest: (u32, u32)) -> bool {
    let mut numbers =
        version.trim_start_matches('v').split('.').map_while(|number| number.parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    found >= oldest
}

/// Environment variable with the path of [`Prerequisite::Python2`].
pub(crate) const PYTHON2: &str = "ROOMCAST_PYTHON2";

/// Oldest supported Node: that of Ubuntu 24.04; Debian 12 has a later 18. Matches `engines` in e2e/package.json.
const OLDEST_NODE: (u32, u32) = (18, 19);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_versions_by_number() {
        assert!(at_least("v18.19.1", OLDEST_NODE));
        assert!(at_least("v20.2.0", OLDEST_NODE));
        assert!(!at_least("v18.9.0", OLDEST_NODE));
        assert!(!at_least("v9.20.0", OLDEST_NODE));
        assert!(!at_least("", OLDEST_NODE));
    }

    #[test]
    fn oldest_node_matches_package_json() {
        let package = include_str!("../../e2e/package.json");
        let (major, minor) = OLDEST_NODE;
        assert!(package.contains(&format!("\"node\": \">={major}.{minor}\"")));
    }
}
