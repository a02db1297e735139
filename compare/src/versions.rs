//! Software versions of a comparison.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Returns names and versions of the software, from the lock files and tools.
pub(super) fn versions(peers: &Path) -> Vec<(String, String)> {
    let mut versions = Vec::new();
    let mut add = |name: &str, version: Option<String>| {
        if let Some(version) = version {
            versions.push((name.to_owned(), version));
        }
    };
    let commit = printed("git", &["rev-parse", "--short", "HEAD"]);
    let own = env!("CARGO_PKG_VERSION");
    add("roomcast", Some(commit.map_or_else(|| own.to_owned(), |commit| format!("{own} at {commit}"))));
    add("rustc", printed("rustc", &["--version"]).and_then(|it| Some(it.split(' ').nth(1)?.to_owned())));
    add("node", printed("node", &["--version"]).map(|it| it.trim_start_matches('v').to_owned()));
    let lock = fs::read_to_string(peers.join("node/package-lock.json")).unwrap_or_default();
    let lock: serde_json::Value = serde_json::from_str(&lock).unwrap_or_default();
    for name in [
        "ws",
        "socket.io",
        "socket.io-msgpack-parser",
        "bufferutil",
        "@socket.io/redis-adapter",
        "@socket.io/redis-streams-adapter",
        "redis",
    ] {
        let version = lock["packages"][format!("node_modules/{name}")]["version"].as_str();
        add(name, version.map(str::to_owned));
    }
    let lock = fs::read_to_string(peers.join("rust/Cargo.lock")).unwrap_or_default();
    for name in [
        "socketioxide",
        "axum",
        "tokio-tungstenite",
        "tokio-websockets",
        "fastwebsockets",
        "sockudo-ws",
        "tokio",
    ] {
        add(name, locked(&lock, name));
    }
    let workspace = fs::read_to_string(peers.join("../../Cargo.lock")).unwrap_or_default();
    add("redis-rs", locked(&workspace, "redis"));
    // "Redis server v=7.0.15 sha=..."
    let server = printed("redis-server", &["--version"]);
    add("redis-server", server.and_then(|it| Some(it.split(" v=").nth(1)?.split(' ').next()?.to_owned())));
    let pinned = fs::read_to_string(peers.join("python/requirements.txt")).unwrap_or_default();
    add("socketify", pinned.lines().find_map(|line| Some(line.strip_prefix("socketify==")?.to_owned())));
    versions
}

/// Returns the newest version of a package in a Cargo.lock, which is sorted.
fn locked(lock: &str, name: &str) -> Option<String> {
    let start = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = lock.rsplit_once(&start)?;
    Some(rest.split('"').next()?.to_owned())
}

/// Runs a program and returns its output, if it succeeds.
fn printed(program: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_files_contain_peer_versions() {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let versions = versions(&peers);
        for name in ["ws", "socket.io", "socketioxide", "axum", "fastwebsockets", "sockudo-ws", "socketify"] {
            let version = versions.iter().find(|it| it.0 == name).map(|it| it.1.as_str()).unwrap_or_default();
            assert!(version.contains('.'), "{name}: {version:?}");
        }
        let lock = "name = \"a\"\nversion = \"1.0\"\n\nname = \"a\"\nversion = \"2.0\"\n";
        assert_eq!((locked(lock, "a").as_deref(), locked(lock, "b")), (Some("2.0"), None));
    }
}
