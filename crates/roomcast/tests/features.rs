//! Checks that every test linked in the feature table exists

use std::fs;
use std::path::Path;

#[test]
fn every_feature_links_existing_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let table = fs::read_to_string(root.join("docs/features.md")).expect("the table of features");
    let mut features = 0;
    for line in table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 7, "a row with a cell too many or too few: {line}");
        let (feature, ours) = (cells[0].trim(), cells[1].trim());
        if feature == "Feature" || ours == "no" {
            continue;
        }
        features += 1;
        let tests = named_tests(ours);
        assert!(!tests.is_empty() && ours.starts_with("[yes]("), "{feature}: no test is named in {ours}");
        for (path, name) in tests {
            let text = fs::read_to_string(root.join(path))
                .unwrap_or_else(|error| panic!("{feature}: {path}: {error}"));
            assert!(is_test(path, name, &text), "{feature}: {path} has no test `{name}`");
        }
    }
    assert!(features > 50, "only {features} features were found: the table has another form now");
}

#[test]
fn detects_missing_test() {
    assert!(is_test("a.rs", "it_works", "#[test]\nfn it_works() {}"));
    assert!(!is_test("a.rs", "it_works", "// it_works is gone; fn it_works_not() {}"));
    assert!(is_test("a.js", "it works", "test(\"it works\", () => {});"));
    assert!(!is_test("a.js", "it works", "test(\"it works not\", () => {});"));
    assert_eq!(named_tests("[yes](../a.rs \"x\") [2](../b.js \"y z\")"), [("a.rs", "x"), ("b.js", "y z")]);
}

/// Returns the links of a cell as paths from the root and test names: `[yes](../path "name")`
fn named_tests(cell: &str) -> Vec<(&str, &str)> {
    let links = cell.split("](../").skip(1);
    links.filter_map(|link| link.split_once("\")")?.0.split_once(" \"")).collect()
}

/// Returns whether a Rust or JavaScript file defines a test of this name.
fn is_test(path: &str, name: &str, text: &str) -> bool {
    if path.ends_with(".rs") {
        return text.contains(&format!("fn {name}("));
    }
    ['"', '`', '\''].iter().any(|quote| text.contains(&format!("{quote}{name}{quote}")))
}
