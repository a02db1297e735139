//! Installation of packages from Debian bullseye that newer releases lack.
//!
//! The machine's own sources stay unchanged: apt uses a temporary copy of them with bullseye added.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::prerequisite::apt;

/// Installs packages from bullseye; returns whether that succeeded.
pub(crate) fn install(root: bool, packages: &[&str], mut run: impl FnMut(Command) -> bool) -> bool {
    let own = own_sources();
    let Some(added) = own.iter().find_map(|(_, text)| debian_archive(text)) else {
        println!("  no Debian source is configured");
        return false;
    };
    let Ok(folder) = Folder::with(&own, &added) else { return false };
    let options = folder.options();
    // Unreachable lists are logged; the packages may still be available.
    let _ = run(apt(root, &options, &["update"]));
    run(apt(root, &options, &[&["install", "--yes", "--no-install-recommends"], packages].concat()))
}

/// Reads the machine's apt sources, by file name.
fn own_sources() -> Vec<(String, String)> {
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|e| e.path());
    let files = parts.chain([PathBuf::from("/etc/apt/sources.list")]);
    let read = files.filter(|file| file.extension().is_some_and(|kind| kind == "list" || kind == "sources"));
    let named = read.filter_map(|file| Some((file.file_name()?.to_str()?.to_owned(), file)));
    named.filter_map(|(name, file)| Some((name, fs::read_to_string(file).ok()?))).collect()
}

/// Returns the first Debian source of a file with its suites replaced, in the format of `.sources` files.
fn debian_archive(source: &str) -> Option<String> {
    source.split("\n\n").find_map(|stanza| from_stanza(stanza).or_else(|| from_line(stanza)))
}

fn from_stanza(stanza: &str) -> Option<String> {
    let suites = stanza.lines().find_map(|line| line.strip_prefix("Suites:"))?;
    is_release(suites.split_whitespace().next()?).then_some(())?;
    let kept = stanza.lines().filter(|line| !line.starts_with(['#', ' ', '\t']) && !line.is_empty());
    let changed =
        kept.map(
            |line| {
                if line.starts_with("Suites:") { "Suites: bullseye\n".into() } else { format!("{line}\n") }
            },
        );
    Some(changed.collect())
}

/// Parses `deb [options] URI suite components…`.
fn from_line(lines: &str) -> Option<String> {
    lines.lines().find_map(|line| {
        let rest = line.strip_prefix("deb ")?.trim_start();
        let rest = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
        let (uri, suite) = rest.trim_start().split_once(' ')?;
        is_release(suite.split_whitespace().next()?).then(|| {
            format!("Types: deb\nURIs: {uri}\nSuites: bullseye\nComponents: main\nSigned-By: {KEYRING}\n")
        })
    })
}

/// Returns whether a suite is a release; security updates are in another archive.
fn is_release(suite: &str) -> bool {
    ["bullseye", "bookworm", "trixie", "forky", "sid"].contains(&suite)
}

/// Temporary sources and lists for apt; removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn with(own: &[(String, String)], added: &str) -> std::io::Result<Self> {
        // Readable for apt's own user.
        let folder = Self(std::env::temp_dir().join(format!("roomcast-apt-{}", std::process::id())));
        fs::create_dir_all(folder.0.join("sources"))?;
        fs::create_dir_all(folder.0.join("lists").join("partial"))?;
        for (name, text) in own {
            let name = if name == "sources.list" { "machine.list" } else { name };
            fs::write(folder.0.join("sources").join(name), text)?;
        }
        fs::write(folder.0.join("sources").join("roomcast-bullseye.sources"), added)?;
        Ok(folder)
    }

    fn options(&self) -> Vec<String> {
        let path = |part: &str| Path::display(&self.0.join(part)).to_string();
        vec![
            "-o".into(),
            "Dir::Etc::SourceList=/dev/null".into(),
            "-o".into(),
            format!("Dir::Etc::SourceParts={}", path("sources")),
            "-o".into(),
            format!("Dir::State::Lists={}", path("lists")),
        ]
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_only_suites_of_source() {
        let source = "Types: deb\n# where it was frozen\nURIs: https://mirror.example/debian\n\
            Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n\n\
            Types: deb\nURIs: https://mirror.example/security\nSuites: bookworm-security\n";
        assert_eq!(
            debian_archive(source).unwrap(),
            "Types: deb\nURIs: https://mirror.example/debian\nSuites: bullseye\nComponents: main\nSigned-By: /k.gpg\n"
        );
    }

    #[test]
    fn converts_one_line_source() {
        let source = "# Debian\ndeb https://mirror.example/security bookworm-security main\n\
            deb [arch=amd64] https://mirror.example/debian bookworm main contrib\n";
        let added = debian_archive(source).unwrap();
        assert!(added.contains("URIs: https://mirror.example/debian\nSuites: bullseye\n"), "{added}");
    }

    #[test]
    fn ignores_other_distributions() {
        assert_eq!(debian_archive("Types: deb\nURIs: https://mirror.example/ubuntu\nSuites: noble\n"), None);
        assert_eq!(debian_archive("deb https://mirror.example/ubuntu noble main\n"), None);
        assert_eq!(debian_archive(""), None);
    }
}
