//! Passes the commit and build parameters to the binary.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    // Set for builds from an archive or in an image without the repository.
    println!("cargo::rerun-if-env-changed=ROOMCAST_COMMIT");
    let told = env::var("ROOMCAST_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = told.or_else(commit).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=ROOMCAST_BUILD_COMMIT={commit}");
    for (name, variable) in [("PROFILE", "ROOMCAST_BUILD_PROFILE"), ("TARGET", "ROOMCAST_BUILD_TARGET")] {
        println!("cargo::rustc-env={variable}={}", env::var(name).unwrap_or_default());
    }
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let rustc = printed(&rustc, &["--version"]).unwrap_or_default();
    println!("cargo::rustc-env=ROOMCAST_BUILD_RUSTC={}", rustc.split(' ').nth(1).unwrap_or("unknown"));
}

/// Returns the checked-out commit, if this is the project's own repository.
fn commit() -> Option<String> {
    // A commit of a repository that vendors this package would be misleading.
    let root = printed("git", &["rev-parse", "--show-toplevel"])?;
    if !Path::new(&root).join("crates/cli/build.rs").exists() {
        return None;
    }
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) =
            printed("git", &["rev-parse", "--git-path", file]).filter(|path| Path::new(path).exists())
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    printed("git", &["rev-parse", "--short=12", "HEAD"])
}

fn printed(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
}
