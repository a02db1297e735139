//! Checks that the code of the pages is tested.

use std::fs;
use std::path::{Path, PathBuf};

use roomcast_book::program::Program;
use roomcast_book::{PAGES, code};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

fn read(page: &str) -> String {
    fs::read_to_string(docs().join(page)).expect("the page is readable")
}

#[test]
fn pages_with_rust_code_are_listed() {
    let mut checked = 0;
    for entry in fs::read_dir(docs()).expect("docs is readable") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name.ends_with(".md") && fs::read_to_string(&path).expect("text").contains("```rust") {
            assert!(PAGES.contains(&name.as_str()), "{name} has Rust code and is not in book/src/lib.rs");
            checked += 1;
        }
    }
    assert!(checked >= 15, "only {checked} pages with Rust code found");
}

/// Returns the program that the Rust blocks of a page make up, up to a section.
fn program(page: &str, end: &str) -> String {
    let mut program = Program::default();
    let blocks = code::blocks(&read(page));
    for block in blocks.iter().take_while(|block| block.section != end) {
        if block.language() == "rust" {
            program.apply(&block.code);
        }
    }
    program.text()
}

/// Returns a source file without its module documentation.
fn without_head(source: &str) -> &str {
    source.split_once("\n\n").map_or(source, |(_, rest)| rest)
}

#[test]
fn tutorial_makes_the_example() {
    let example = include_str!("../examples/tutorial.rs");
    assert_eq!(program("tutorial.md", "Enable TLS"), without_head(example));
    let html = code::blocks(&read("tutorial.md")).into_iter().find(|block| block.language() == "html");
    assert_eq!(html.expect("the page").code, include_str!("../examples/tutorial.html"));
}

#[test]
fn testing_makes_the_tests() {
    assert_eq!(program("testing.md", "Methods"), without_head(include_str!("testing.rs")));
}
