//! Names what `cargo test` leaves out, and sees that `cargo xtask test` leaves out nothing of it.

use std::fs;
use std::path::Path;
use std::process::Command;

fn main() {
    // Arguments that nextest passes before it runs a test.
    if std::env::args().any(|arg| arg == "--list") {
        println!("left_out: test");
        return;
    }
    let steps = steps();
    println!(
        "\n`cargo test` needs only Rust, and leaves out what needs more. `cargo xtask test` runs all of it:"
    );
    for (name, about) in steps.iter().filter(|(name, _)| !RUST_ALONE.contains(&name.as_str())) {
        println!("  {name}: {about}");
    }
    let e2e = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e");
    for folder in test_folders(&e2e) {
        assert!(
            steps.iter().any(|(name, _)| *name == folder),
            "e2e/{folder} has tests, and no step of `cargo xtask test` has that name; add one to xtask/src/plan.rs"
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

/// The folders of `e2e` with tests in them.
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

/// Steps that `cargo test` covers, or that only prepare others.
const RUST_ALONE: [&str; 3] = ["rust", "build", "npm ci"];
