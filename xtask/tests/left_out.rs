//! Lists the tests outside `cargo test`, and checks that `cargo xtask test` runs all of them.

use std::fs;
use std::path::Path;
use std::process::Command;

fn main() {
    // nextest lists tests before it runs them.
    if std::env::args().any(|arg| arg == "--list") {
        println!("left_out: test");
        return;
    }
    let steps = steps();
    println!("\n`cargo test` runs only tests that need nothing but Rust. `cargo xtask test` also runs:");
    for (name, about) in steps.iter().filter(|(name, _)| !RUST_ALONE.contains(&name.as_str())) {
        println!("  {name}: {about}");
    }
    let e2e = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e");
    for folder in test_folders(&e2e) {
        assert!(
            steps.iter().any(|(name, _)| *name == folder),
            "no step of `cargo xtask test` runs the tests in e2e/{folder}; add one to xtask/src/plan.rs"
        );
    }
    println!();
}

fn steps() -> Vec<(String, String)> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_xtask")).args(["test", "--list"]).output().expect("xtask starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).expect("the list is text");
    listed
        .lines()
        .map(|line| line.split_once(": ").expect("a step is listed as `name: about`"))
        .map(|(name, about)| (name.to_owned(), about.to_owned()))
        .collect()
}

/// Returns the folders of `e2e` with tests.
fn test_folders(e2e: &Path) -> Vec<String> {
    let is_test =
        |name: &str| name.ends_with(".test.js") || name.starts_with("test_") && name.ends_with(".py");
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).expect("the folder can be read");
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let folders = names(e2e).into_iter().filter(|name| name != "node_modules" && e2e.join(name).is_dir());
    let found: Vec<_> =
        folders.filter(|name| names(&e2e.join(name)).iter().any(|file| is_test(file))).collect();
    assert!(!found.is_empty(), "no test in {}", e2e.display());
    found
}

/// Steps that `cargo test` covers, and preparatory steps.
const RUST_ALONE: [&str; 3] = ["rust", "build", "npm ci"];
