//! Checks the sources against the layers, import cycles and control flow in `ARCHITECTURE.md`.
//!
//! The check fails on an import from a lower layer to a higher one, on an import cycle that the table does not list, on
//! a row that is out of date, and on a step of a numbered list whose function does not exist.

mod imports;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use self::imports::{Modules, is_within};
use crate::project::Project;

const TABLES: &str = "ARCHITECTURE.md";
/// Marker above the table of layers, highest first.
const LAYERS: &str = "<!-- checked: layers of crates/server -->";
const LAYERED: &str = "server";
/// Marker above the table of import cycles.
const CIRCLES: &str = "<!-- checked: circles -->";

/// Listed import cycle.
#[derive(Debug)]
struct Known {
    /// Folder name of the crate.
    of: String,
    /// Any module of the cycle.
    around: String,
    files: usize,
}

pub(crate) fn run(project: &Project) -> ExitCode {
    match check(&project.root) {
        Ok(words) => {
            println!("{words}");
            ExitCode::SUCCESS
        }
        Err(problems) => {
            problems.iter().for_each(|problem| println!("{problem}"));
            println!("{} problems; see the tables in {TABLES}", problems.len());
            ExitCode::FAILURE
        }
    }
}

/// Checks all crates against the tables; returns a summary.
///
/// # Errors
///
/// Returns a description of each problem.
fn check(root: &Path) -> Result<String, Vec<String>> {
    let one = |problem: String| vec![problem];
    let text = fs::read_to_string(root.join(TABLES)).map_err(|error| one(format!("{TABLES}: {error}")))?;
    let layers = rows(&text, LAYERS).map_err(one)?;
    let layers: Vec<&str> = layers.iter().filter_map(|row| row.first().copied()).collect();
    let known = known_circles(&text).map_err(one)?;
    let (mut problems, mut files, mut crates) = (Vec::new(), 0, 0);
    let mut names: Vec<_> = fs::read_dir(root.join("crates"))
        .and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>()
        })
        .map_err(|error| one(format!("crates: {error}")))?;
    names.sort();
    for name in names.iter().map(|name| name.to_string_lossy()) {
        let src = root.join("crates").join(&*name).join("src");
        if !src.is_dir() {
            continue;
        }
        let modules = imports::read(&src).map_err(|problem| one(format!("crates/{name}: {problem}")))?;
        (files, crates) = (files + modules.len(), crates + 1);
        if name == LAYERED {
            problems.extend(
                upwards(&modules, &layers).into_iter().map(|problem| format!("crates/{name}: {problem}")),
            );
        }
        let known: Vec<&Known> = known.iter().filter(|known| known.of == name).collect();
        problems.extend(
            unknown_circles(&modules, &known).into_iter().map(|problem| format!("crates/{name}: {problem}")),
        );
    }
    let steps = ways::check(root, &text).unwrap_or_else(|missing| {
        problems.extend(missing);
        0
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    let circles = known.len();
    Ok(format!(
        "{files} files of {crates} crates: imports follow the layers, {circles} known import cycles, {steps} steps of \
         ARCHITECTURE.md name existing functions"
    ))
}

/// Returns the code spans of each row of the table behind a marker.
fn rows<'a>(text: &'a str, marker: &str) -> Result<Vec<Vec<&'a str>>, String> {
    let Some((_, behind)) = text.split_once(marker) else { return Err(format!("{TABLES} lacks `{marker}`")) };
    let table =
        behind.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    // Skip the header and the line below it.
    Ok(table.skip(2).map(|row| row.split('`').skip(1).step_by(2).collect()).collect())
}

fn known_circles(text: &str) -> Result<Vec<Known>, String> {
    let read = |row: &Vec<&str>| match row[..] {
        [of, around, files, ..] => {
            let files = files.parse().map_err(|_| format!("{TABLES}: `{files}` is not a number of files"))?;
            Ok(Known { of: of.trim_start_matches("crates/").to_owned(), around: around.to_owned(), files })
        }
        _ => Err(format!("{TABLES}: an import cycle needs crate, file and number in backticks, not {row:?}")),
    };
    rows(text, CIRCLES)?.iter().map(read).collect()
}

/// Finds imports from a lower layer to a higher one, and folders without a layer.
fn upwards(modules: &Modules, layers: &[&str]) -> Vec<String> {
    let rank = |module: &str| layers.iter().position(|layer| is_within(module, layer));
    let mut problems = Vec::new();
    let folders: BTreeSet<&str> =
        modules.keys().filter_map(|module| module.split_once("::")).map(|(top, _)| top).collect();
    for folder in folders.iter().filter(|folder| !layers.contains(folder)) {
        problems.push(format!("src/{folder} is in no layer"));
    }
    for layer in layers.iter().filter(|layer| !folders.contains(*layer)) {
        problems.push(format!("the layer `{layer}` has no folder"));
    }
    for (module, source) in modules.iter().filter(|(module, _)| !module.is_empty()) {
        for (target, names) in &source.imports {
            // A file next to the folders is above all of them.
            let (Some(from), to) = (rank(module), rank(target)) else { continue };
            if to.is_none_or(|to| to < from) {
                let (file, target) = (&source.file, &modules[target].file);
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                problems.push(format!(
                    "src/{file} imports {} from src/{target}, a higher layer",
                    names.join(", ")
                ));
            }
        }
    }
    problems
}

/// Finds import cycles that are not listed or have grown, and rows that are out of date.
fn unknown_circles(modules: &Modules, known: &[&Known]) -> Vec<String> {
    let circles = circles(modules);
    let mut problems = Vec::new();
    for circle in &circles {
        let row = known.iter().find(|known| circle.contains(&known.around.as_str()));
        match row {
            Some(row) if row.files == circle.len() => {}
            Some(row) if row.files > circle.len() => problems.push(format!(
                "the import cycle around {} has {} files; update the table",
                row.around,
                circle.len()
            )),
            _ => problems.push(format!("import cycle of {} files: {}", circle.len(), circle.join(", "))),
        }
    }
    let is_gone = |known: &&&Known| !circles.iter().any(|circle| circle.contains(&known.around.as_str()));
    problems.extend(
        known
            .iter()
            .filter(is_gone)
            .map(|known| format!("no import cycle around {}; remove it from the table", known.around)),
    );
    problems
}

/// Returns the strongly connected components of more than one file (Tarjan, 1972).
fn circles(modules: &Modules) -> Vec<Vec<&str>> {
    struct Search<'a> {
        modules: &'a Modules,
        order: BTreeMap<&'a str, usize>,
        lowest: BTreeMap<&'a str, usize>,
        open: Vec<&'a str>,
        found: Vec<Vec<&'a str>>,
    }

    impl<'a> Search<'a> {
        fn visit(&mut self, module: &'a str) {
            let number = self.order.len();
            self.order.insert(module, number);
            self.lowest.insert(module, number);
            self.open.push(module);
            let modules = self.modules;
            for next in modules.get(module).into_iter().flat_map(|module| module.imports.keys()) {
                let reached = match self.order.get(next.as_str()) {
                    None => {
                        self.visit(next);
                        self.lowest[next.as_str()]
                    }
                    Some(number) if self.open.contains(&next.as_str()) => *number,
                    Some(_) => continue,
                };
                if let Some(lowest) = self.lowest.get_mut(module) {
                    *lowest = (*lowest).min(reached);
                }
            }
            if self.lowest[module] == number {
                let start = self.open.iter().position(|open| *open == module).unwrap_or_default();
                let mut circle = self.open.split_off(start);
                circle.sort_unstable();
                if circle.len() > 1 {
                    self.found.push(circle);
                }
            }
        }
    }

    let mut search = Search {
        modules,
        order: BTreeMap::new(),
        lowest: BTreeMap::new(),
        open: Vec::new(),
        found: Vec::new(),
    };
    // Skip the root: it re-exports everything, so its cycles are meaningless.
    for module in modules.keys().filter(|module| !module.is_empty()) {
        if !search.order.contains_key(module.as_str()) {
            search.visit(module);
        }
    }
    search.found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(files: &[(&str, &str)]) -> Modules {
        let sources = files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
        imports::resolve(&sources).expect("it is Rust")
    }

    fn imports_of(module: &str, files: &[(&str, &str)]) -> Vec<String> {
        modules(files)[module].imports.keys().cloned().collect()
    }

    #[test]
    fn finds_imports_in_all_positions() {
        let others = [("b.rs", ""), ("c/mod.rs", ""), ("c/d.rs", "")];
        let found =
            |text: &'static str| imports_of("a", &[&[("a.rs", text), ("lib.rs", "")], &others[..]].concat());
        assert_eq!(found("use crate::b::B;"), ["b"]);
        assert_eq!(found("use crate::{b::B, c::{self, d::{D, E as F}}};"), ["b", "c", "c::d"]);
        assert_eq!(found("fn f() -> crate::b::B { super::c::d::new() }"), ["b", "c::d"]);
        assert_eq!(found("macro_rules! m { () => { $crate::b::log!(crate::c::d::X) } }"), ["b", "c::d"]);
        assert_eq!(found("fn f() { log!(\"{}\", crate::b::X); }"), ["b"]);
        assert_eq!(found("#[error(\"{}\", crate::b::X)] struct E;"), ["b"]);
        assert_eq!(found("mod inner { use super::super::b::B; use super::X; }"), ["b"]);
        assert_eq!(found("use std::b::C; use other::crate_::b::D; // crate::b::E"), [""; 0]);
    }

    #[test]
    fn ignores_imports_of_tests() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            (
                "a.rs",
                "#[cfg(test)] mod tests; #[cfg(test)] mod more { use crate::b::B; } #[cfg(test)] use crate::b::C;",
            ),
            ("a/tests.rs", "use crate::b::B;"),
            ("b.rs", "#[cfg(all(test, not(loom)))] fn f() { crate::a::g() }"),
        ];
        let modules = modules(&files);
        assert!(modules.values().all(|module| module.imports.is_empty()), "{modules:?}");
        assert!(!modules.contains_key("a::tests"));
    }

    #[test]
    fn follows_reexports_to_definition() {
        let files = [
            ("lib.rs", "pub use crate::b::B;"),
            ("a.rs", "use crate::B; use crate::c::D;"),
            ("b.rs", ""),
            ("c/mod.rs", "pub(crate) use self::d::{D, E}; fn f(_: E) {}"),
            ("c/d.rs", ""),
        ];
        assert_eq!(imports_of("a", &files), ["b", "c::d"]);
        assert_eq!(modules(&files)["c"].imports["c::d"], BTreeSet::from(["E".to_owned()]));
    }

    #[test]
    fn rejects_imports_from_higher_layers() {
        let files = [
            ("high/mod.rs", "pub(crate) mod a;"),
            ("high/a.rs", "use crate::low::b::B;"),
            ("low/mod.rs", "pub(crate) mod b; pub(crate) mod c;"),
            ("low/b.rs", "use crate::high::a::A;"),
            ("low/c.rs", "use crate::alone::X; use crate::low::b::B;"),
            ("alone.rs", "use crate::high::a::A;"),
        ];
        let problems = upwards(&modules(&files), &["high", "low"]);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("low/b.rs imports A from src/high/a.rs"), "{problems:?}");
        assert!(problems[1].contains("alone.rs"), "{problems:?}");
        let problems = upwards(&modules(&files), &["high", "empty"]);
        assert_eq!(problems[..2], ["src/low is in no layer", "the layer `empty` has no folder"]);
    }

    #[test]
    fn rejects_unknown_and_stale_cycles() {
        let files = [
            ("a.rs", "use crate::b::B;"),
            ("b.rs", "use crate::c::C;"),
            ("c.rs", "use crate::a::A; use crate::d::D;"),
            ("d.rs", ""),
        ];
        let modules = modules(&files);
        assert_eq!(circles(&modules), [["a", "b", "c"]]);
        let known = |around: &str, files| Known { of: String::new(), around: around.to_owned(), files };
        let problems = |rows: &[Known]| unknown_circles(&modules, &rows.iter().collect::<Vec<_>>());
        assert!(problems(&[known("b", 3)]).is_empty());
        assert!(problems(&[])[0].contains("a, b, c"));
        assert!(problems(&[known("b", 2)])[0].contains("a, b, c"));
        assert!(problems(&[known("b", 4)])[0].contains("has 3 files"));
        assert!(problems(&[known("b", 3), known("d", 2)])[0].contains("no import cycle around d"));
    }

    #[test]
    fn reads_code_spans_of_tables() {
        let text =
            "x\n<!-- m -->\n\n| a | b |\n| - | - |\n| `one` | of `two` |\n| `three` | – |\n\n| `no` |\n";
        assert_eq!(rows(text, "<!-- m -->"), Ok(vec![vec!["one", "two"], vec!["three"]]));
        assert!(rows(text, "<!-- n -->").is_err());
    }
}
