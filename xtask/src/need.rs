//! Prerequisites of a step besides Rust: found, installed, or reported as missing.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::geteuid;

use crate::bullseye;

/// A program that does not come with Rust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Node with npm, for the clients written in JavaScript.
    Node,
    /// A Chromium that playwright can drive.
    Chromium,
    /// Python with venv, for the clients written in Python.
    Python,
    /// Python 2.7 with its headers and a compiler, for Autobahn's suite.
    Python2,
    /// Valgrind, which counts instructions.
    Valgrind,
    /// nginx, HAProxy and Caddy.
    Proxies,
    /// OpenSSL's headers, which the client of crates.io is built with.
    OpenSsl,
}

/// Why a step cannot run here, and how to change that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) reason: String,
    pub(crate) remedy: String,
}

impl Need {
    /// Finds the program, after installing it if requested; sets the environment that steps need.
    ///
    /// `run` runs a command with its output in the step's log, and tells whether it succeeded.
    pub(crate) fn see_to(
        self,
        install: bool,
        mut run: impl FnMut(Command) -> bool,
    ) -> Result<Vec<(&'static str, OsString)>, Missing> {
        let Err(reason) = self.find() else { return Ok(self.variables()) };
        let packages = self.packages();
        let remedy = match self {
            Self::Python2 => "cargo xtask test --install, which takes it from Debian's bullseye".to_owned(),
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
                reason: format!("{reason}, and there is no apt-get to install it with"),
                remedy: format!("install {} by your own means", packages.join(" ")),
            });
        }
        println!("  {reason}: installing {}", packages.join(" "));
        let installed = match self {
            Self::Python2 => bullseye::install(root, packages, &mut run),
            _ => {
                // An unreachable list may not be needed.
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
                    return Err(format!("node is {version}, and {major}.{minor} is the oldest that will do"));
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
            Self::OpenSsl => {
                let found = printed("pkg-config", &["--exists", "openssl"]);
                found.map(drop).ok_or_else(|| "no headers of OpenSSL that pkg-config knows of".into())
            }
        }
    }

    fn variables(self) -> Vec<(&'static str, OsString)> {
        match self {
            Self::Chromium => chromium().map(|path| ("ROOMCAST_CHROMIUM", path.into())).into_iter().collect(),
            Self::Python2 => python2().map(|path| (PYTHON2, path.into())).into_iter().collect(),
            Self::Node | Self::Python | Self::Valgrind | Self::Proxies | Self::OpenSsl => Vec::new(),
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
            Self::OpenSsl => &["libssl-dev", "pkg-config"],
        }
    }
}

const PROXIES: [&str; 3] = ["nginx", "haproxy", "caddy"];

/// Debian installs servers where only root's `PATH` leads.
fn is_server(program: &str) -> bool {
    found(program).is_some()
        || ["/usr/sbin", "/usr/local/sbin"].iter().any(|folder| Path::new(folder).join(program).is_file())
}

fn chromium() -> Option<PathBuf> {
    let chosen = env::var_os("ROOMCAST_CHROMIUM").map(PathBuf::from).filter(|path| path.is_file());
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    chosen.or_else(|| names.into_iter().find_map(found))
}

/// The first that works and has its headers: a version manager may stand before it with a name and nothing behind it.
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

/// Debian itself, or what names it as its like, as Ubuntu does.
fn on_debian() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let mut names = release.lines().filter(|line| line.starts_with("ID=") || line.starts_with("ID_LIKE="));
    names.any(|line| line.contains("debian"))
}

fn found(program: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Returns the output of a program, if it exists and succeeds.
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

/// The variable that names [`Need::Python2`] to a step.
pub(crate) const PYTHON2: &str = "ROOMCAST_PYTHON2";

/// The one in Ubuntu 24.04; Debian 12 has a later 18. `engines` in e2e/package.json says the same.
const OLDEST_NODE: (u32, u32) = (18, 19);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(at_least("v18.19.1", OLDEST_NODE));
        assert!(at_least("v20.2.0", OLDEST_NODE));
        assert!(!at_least("v18.9.0", OLDEST_NODE));
        assert!(!at_least("v9.20.0", OLDEST_NODE));
        assert!(!at_least("", OLDEST_NODE));
    }

    #[test]
    fn the_oldest_node_is_the_one_package_json_names() {
        let package = include_str!("../../e2e/package.json");
        let (major, minor) = OLDEST_NODE;
        assert!(package.contains(&format!("\"node\": \">={major}.{minor}\"")));
    }
}
