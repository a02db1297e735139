//! Checks that the code of the pages is tested.

use std::fs;
use std::path::{Path, PathBuf};

use roomcast_book::PAGES;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
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

/// Returns the `rust,ignore` blocks of a page, which documentation tests skip, and its HTML blocks.
fn excerpts(page: &str) -> Vec<String> {
    let text = fs::read_to_string(docs().join(page)).expect("the page is readable");
    let blocks = text.split("\n```").skip(1).step_by(2);
    let blocks = blocks.filter_map(|block| {
        let (language, code) = block.split_once('\n')?;
        ["rust,ignore", "html"].contains(&language).then(|| code.trim_end().to_owned())
    });
    blocks.collect()
}

#[track_caller]
fn assert_contains_excerpts(file: &str, source: &str, excerpts: &[String]) {
    assert!(!excerpts.is_empty());
    for excerpt in excerpts {
        assert!(source.contains(excerpt.as_str()), "not in {file}:\n{excerpt}");
    }
}

#[test]
fn tutorial_shows_the_example() {
    let source = concat!(include_str!("../examples/tutorial.rs"), include_str!("../examples/tutorial.html"));
    assert_contains_excerpts("book/examples/tutorial.rs", source, &excerpts("tutorial.md"));
}

#[test]
fn testing_shows_the_tests() {
    let source = include_str!("testing.rs");
    assert_contains_excerpts("book/tests/testing.rs", source, &excerpts("testing.md"));
}
