//! Checks the links of the built book.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::{BufferQueue, Tag, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts};

use crate::repository::ENCODED;

/// Result of a check.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) pages: usize,
    pub(crate) links: usize,
    pub(crate) problems: Vec<String>,
}

/// Anchors and links of a page.
#[derive(Debug, Default)]
struct Page {
    ids: HashSet<String>,
    links: Vec<String>,
}

/// Checks that every relative link of the HTML in a folder leads to a file, and every fragment to an anchor.
///
/// Links to other hosts are not followed.
pub(crate) fn check(folder: &Path) -> io::Result<Checked> {
    let mut pages = HashMap::new();
    read(folder, &mut pages)?;
    let mut checked = Checked { pages: pages.len(), links: 0, problems: Vec::new() };
    for (path, page) in &pages {
        // All chapters on one page: their links were checked there, and their anchors are not unique.
        if path.ends_with("print.html") {
            continue;
        }
        for link in page.links.iter().filter(|link| !is_external(link)) {
            checked.links += 1;
            if let Some(problem) = problem(&pages, path, link) {
                let path = path.strip_prefix(folder).unwrap_or(path).display();
                checked.problems.push(format!("{path}: {link}: {problem}"));
            }
        }
    }
    checked.problems.sort();
    Ok(checked)
}

fn problem(pages: &HashMap<PathBuf, Page>, page: &Path, link: &str) -> Option<&'static str> {
    let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
    let path = path.split('?').next().unwrap_or_default().replace(ENCODED, ".md");
    let target = if path.is_empty() { page.to_owned() } else { page.parent().unwrap_or(page).join(path) };
    let Ok(target) = target.canonicalize() else { return Some("no such file") };
    let anchors = pages.get(&target).map(|page| &page.ids)?;
    (!fragment.is_empty() && !anchors.contains(fragment)).then_some("no such heading")
}

fn is_external(link: &str) -> bool {
    link.split(['/', '#']).next().is_some_and(|start| start.contains(':')) || link.starts_with("//")
}

fn read(folder: &Path, pages: &mut HashMap<PathBuf, Page>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read(&path, pages)?;
        } else if path.extension().is_some_and(|extension| extension == "html")
            // Served for any path, so its links are relative to a base.
            && !path.ends_with("404.html")
        {
            let page = parse(&fs::read_to_string(&path)?);
            pages.insert(path.canonicalize()?, page);
        }
    }
    Ok(())
}

fn parse(html: &str) -> Page {
    let input = BufferQueue::default();
    input.push_back(StrTendril::from(html));
    let tokenizer = Tokenizer::new(Attributes::default(), TokenizerOpts::default());
    let _ = tokenizer.feed(&input);
    tokenizer.end();
    tokenizer.sink.0.into_inner()
}

#[derive(Debug, Default)]
struct Attributes(RefCell<Page>);

impl TokenSink for Attributes {
    type Handle = ();

    fn process_token(&self, token: Token, _: u64) -> TokenSinkResult<()> {
        if let Token::TagToken(Tag { attrs, .. }) = token {
            let mut page = self.0.borrow_mut();
            for attribute in attrs {
                let value = attribute.value.to_string();
                match &*attribute.name.local {
                    "id" => _ = page.ids.insert(value),
                    "href" | "src" => page.links.push(value),
                    _ => {}
                }
            }
        }
        TokenSinkResult::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_links_and_anchors_in_tags_only() {
        let page =
            parse("<h2 id=\"one\">One</h2><a href='two.html#x'>2</a><code>&lt;a href=\"no\"&gt;</code>");
        assert_eq!(page.ids, HashSet::from(["one".to_owned()]));
        assert_eq!(page.links, ["two.html#x"]);
    }

    #[test]
    fn reports_broken_links() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().expect("this folder");
        let path = root.join("Cargo.toml");
        let page = Page { ids: HashSet::from(["here".to_owned()]), links: Vec::new() };
        let pages = HashMap::from([(path.clone(), page)]);
        assert_eq!(problem(&pages, &path, "#here"), None);
        assert_eq!(problem(&pages, &path, "Cargo.toml#there"), Some("no such heading"));
        assert_eq!(problem(&pages, &path, "src/lib.rs"), None);
        assert_eq!(problem(&pages, &path, "nowhere.html"), Some("no such file"));
        assert!(
            is_external("https://a.example/")
                && is_external("mailto:a@b.example")
                && !is_external("a.html#b:c")
        );
    }
}
