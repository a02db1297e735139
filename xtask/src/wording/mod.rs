//! Counts marker phrases of `xtask/wording.txt` in comments and Markdown.
//!
//! The check fails if an area of the project has more than [`MOST`] of them per 10,000 words.

mod prose;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use regex::Regex;

use self::prose::Block;
use crate::project::Project;

const PHRASES: &str = include_str!("../../wording.txt");
/// Highest number of marker phrases per 10,000 words.
const MOST: f64 = 5.0;
/// An area with fewer words is counted as if it had that many, so that it may have one phrase.
const FEWEST_WORDS: usize = 2_000;

/// Text of a crate or folder.
#[derive(Debug, Default)]
struct Area {
    words: usize,
    /// Where each phrase was found, with the words around it.
    found: Vec<String>,
}

impl Area {
    fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a few hundred thousand words")]
        let rate = |found: usize, words: usize| found as f64 * 10_000.0 / words as f64;
        rate(self.found.len(), self.words.max(FEWEST_WORDS))
    }
}

/// Counts the phrases in the whole project, and prints a table and each phrase found.
pub(crate) fn run(project: &Project) -> ExitCode {
    let areas = match phrases(PHRASES).and_then(|phrases| count(&project.root, &phrases)) {
        Ok(areas) => areas,
        Err(problem) => {
            println!("{problem}");
            return ExitCode::FAILURE;
        }
    };
    for found in areas.values().flat_map(|area| &area.found) {
        println!("{found}");
    }
    let too_many = areas.values().filter(|area| area.rate() > MOST).count();
    println!("{:28} {:>7} {:>7} {:>10}", "area", "words", "phrases", "per 10,000");
    for (name, area) in &areas {
        println!("{name:28} {:>7} {:>7} {:>10.1}", area.words, area.found.len(), area.rate());
    }
    let (words, found) =
        areas.values().fold((0, 0), |(words, found), area| (words + area.words, found + area.found.len()));
    println!("{:28} {words:>7} {found:>7}", "total");
    if too_many > 0 {
        println!(
            "{too_many} areas have more than {MOST} marker phrases per 10,000 words: rewrite them (xtask/wording.txt)"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Reads lines of the form `pattern | example`.
///
/// # Errors
/// A line without an example, or whose pattern does not find it.
fn phrases(list: &str) -> Result<Vec<Regex>, String> {
    let lines = list.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("# "));
    lines
        .map(|line| {
            let (pattern, example) = line.split_once(" | ").ok_or_else(|| format!("no example: {line}"))?;
            let pattern =
                Regex::new(&format!("(?i){}", pattern.trim())).map_err(|error| error.to_string())?;
            if pattern.is_match(example.trim()) {
                Ok(pattern)
            } else {
                Err(format!("finds no example: {line}"))
            }
        })
        .collect()
}

fn count(root: &Path, phrases: &[Regex]) -> Result<BTreeMap<String, Area>, String> {
    let mut files = Vec::new();
    collect(root, &mut files).map_err(|error| format!("{}: {error}", root.display()))?;
    let mut areas: BTreeMap<String, Area> = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let blocks =
            if has_extension(&file, &["md"]) { prose::markdown(&text) } else { prose::comments(&text) };
        let path = file.strip_prefix(root).unwrap_or(&file);
        let area = areas.entry(area_of(path)).or_default();
        for block in &blocks {
            area.words += block.text.split_whitespace().count();
            area.found.extend(
                find(block, phrases).map(|found| format!("{}:{}: {found}", path.display(), block.line)),
            );
        }
    }
    Ok(areas)
}

/// Returns the phrases in a block with the words around them.
fn find<'a>(block: &'a Block, phrases: &'a [Regex]) -> impl Iterator<Item = &'a str> {
    let around = |start: usize, end: usize| {
        let text = &block.text;
        let is_boundary = |at: &usize| text.is_char_boundary(*at);
        let start = (0..=start.saturating_sub(30)).rev().find(is_boundary).unwrap_or_default();
        let end = (end + 30..text.len()).find(is_boundary).unwrap_or(text.len());
        &text[start..end]
    };
    phrases
        .iter()
        .flat_map(|phrase| phrase.find_iter(&block.text))
        .map(move |found| around(found.start(), found.end()))
}

/// Returns the crate, or the folder at the top.
fn area_of(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    match &parts[..] {
        [_] => "top".to_owned(),
        [first, second, ..] if first == "crates" => format!("crates/{second}"),
        [first, ..] => first.to_string(),
        [] => String::new(),
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let is_ours = !name.to_string_lossy().starts_with('.') && name != "node_modules" && name != "target";
        if path.is_dir() && is_ours {
            collect(&path, files)?;
        } else if has_extension(&path, &["rs", "js", "mjs", "md"]) {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|found| extensions.iter().any(|extension| found == *extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let block = Block { line: 1, text: text.to_owned() };
        find(&block, &phrases(PHRASES).unwrap()).map(str::to_owned).collect()
    }

    #[test]
    fn each_phrase_finds_its_example() {
        assert!(phrases(PHRASES).is_ok());
        assert!(phrases("\\bwho\\b | clients that wait").is_err());
        assert!(phrases("\\bwho\\b").is_err());
    }

    #[test]
    fn list_of_phrases_never_shrinks() {
        assert!(phrases(PHRASES).unwrap().len() >= 45);
    }

    #[test]
    fn finds_translated_sentences() {
        for text in [
            "Lets a member in; it is in no room but the one of its own id",
            "Whom a broadcast addresses, and how",
            "What is handed to the task that drives a session",
            "An IPv4 address that came in the clothes of an IPv6 one is what it is",
            "the admin listener asks nobody who he is; see that only you can reach it",
            "Certificate as PEM, with those that vouch for it",
            "Who is going to wake a flusher; whoever does not relay need not wait for that",
            "nobody with this secret is kept",
            "Holds unless the emit says otherwise, and goes before what a socket was told",
            "A client at the door: the middlewares that have not agreed yet",
            "Whoever asks for one more is told `Too many namespaces`",
            "Who comes from Node finds every call of its server API beside ours",
        ] {
            assert!(!found(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn accepts_plain_sentences() {
        for text in [
            "Attaches a member. It starts in no room except the one named by its own id.",
            "Recipients and delivery options of a broadcast.",
            "Mailbox: bounded queue of commands for a session's driver task.",
            "Unmaps IPv4-mapped IPv6 addresses.",
            "Overridden per emit; takes precedence over the socket's policy.",
            "Pending connect: middlewares still to run.",
            "Further CONNECT packets are rejected with `Too many namespaces`.",
            "Graceful shutdown and observability",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn assigns_files_to_areas() {
        let areas = ["README.md", "crates/core/src/lib.rs", "e2e/clients/tls.test.js"]
            .map(|path| area_of(Path::new(path)));
        assert_eq!(areas, ["top", "crates/core", "e2e"]);
    }

    #[test]
    fn small_areas_may_have_one_phrase() {
        let area = |words, found| Area { words, found: vec![String::new(); found] };
        assert!(area(100, 1).rate() <= MOST);
        assert!(area(100, 2).rate() > MOST);
        assert!(area(10_000, 5).rate() <= MOST);
        assert!(area(10_000, 6).rate() > MOST);
    }
}
