//! Links from pages to files outside the book.
//!
//! Pages link to sources by relative paths, which work in a checkout and on hosts of repositories. The HTML is in another
//! folder, so these links are rewritten: to the repository if `output.html.git-repository-url` is set, and otherwise to
//! the files of this checkout.

use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use mdbook_markdown::pulldown_cmark::{Event, Tag};
use mdbook_markdown::{MarkdownOptions, new_cmark_parser};
use mdbook_preprocessor::book::Book;
use mdbook_preprocessor::errors::Result;
use mdbook_preprocessor::{Preprocessor, PreprocessorContext};

/// `.md` in a URL.
pub(crate) const ENCODED: &str = "%2Emd";

/// Preprocessor that rewrites links to files outside the book.
pub(crate) struct RepositoryLinks {
    root: PathBuf,
    /// Folder of the HTML.
    dest: PathBuf,
    found: OutsideLinks,
}

/// Links to files outside the book.
#[derive(Debug, Clone, Default)]
pub(crate) struct OutsideLinks(Arc<Mutex<(usize, Vec<String>)>>);

impl OutsideLinks {
    /// Returns the number of links.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Returns a problem for each link whose file does not exist.
    pub(crate) fn missing(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

impl RepositoryLinks {
    /// Creates a preprocessor for absolute paths without symbolic links.
    pub(crate) fn new(root: PathBuf, dest: PathBuf) -> Self {
        Self { root, dest, found: OutsideLinks::default() }
    }

    /// Returns the links found while the book is built.
    pub(crate) fn found(&self) -> OutsideLinks {
        self.found.clone()
    }

    /// Returns the new destination of a link, or `None` if it stays in the book.
    fn rewrite(&self, repository: Option<&str>, page: &Path, link: &str) -> Option<String> {
        let (path, fragment) = link.split_at(link.find('#').unwrap_or(link.len()));
        if path.is_empty() || path.contains(':') || path.starts_with('/') {
            return None;
        }
        let folder = Path::new("docs").join(page).parent().map(Path::to_owned).unwrap_or_default();
        let target = normalized(&folder.join(path))?;
        if target.starts_with("docs") {
            // mdBook renders such a page as `index.html`, but does not change links to it.
            return path.strip_suffix("README.md").map(|folder| format!("{folder}index.md{fragment}"));
        }
        let mut found = self.found.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.0 += 1;
        if !self.root.join(&target).exists() {
            found.1.push(format!("docs/{}: no file {}", page.display(), target.display()));
        }
        let target = target.to_string_lossy().replace('\\', "/");
        Some(match repository {
            Some(url) => format!("{}/blob/HEAD/{target}{fragment}", url.trim_end_matches('/')),
            None => {
                let html = self.dest.join(page);
                let up = relative(html.parent().unwrap_or(&self.dest), &self.root);
                // The encoded dot keeps mdBook from replacing `.md` with `.html`.
                let target = target.replace(".md", ENCODED);
                format!("{}/{target}{fragment}", up.to_string_lossy())
            }
        })
    }

    fn rewrite_page(&self, repository: Option<&str>, page: &Path, text: &str) -> String {
        let mut rewritten = text.to_owned();
        let mut links: Vec<_> = new_cmark_parser(text, &MarkdownOptions::default())
            .into_offset_iter()
            .filter_map(|(event, range)| match event {
                Event::Start(Tag::Link { dest_url, .. }) => Some((dest_url.to_string(), range)),
                _ => None,
            })
            .collect();
        // From the end, so that the ranges before stay valid.
        links.sort_by_key(|(_, range)| std::cmp::Reverse(range.start));
        for (link, range) in links {
            let Some(new) = self.rewrite(repository, page, &link) else { continue };
            if let Some(at) = text[range.clone()].rfind(&format!("]({link}")) {
                let start = range.start + at + 2;
                rewritten.replace_range(start..start + link.len(), &new);
            }
        }
        rewritten
    }
}

impl Preprocessor for RepositoryLinks {
    fn name(&self) -> &str {
        "repository-links"
    }

    fn run(&self, context: &PreprocessorContext, mut book: Book) -> Result<Book> {
        let html = context.config.html_config().unwrap_or_default();
        book.for_each_chapter_mut(|chapter| {
            if let Some(page) = chapter.source_path.clone() {
                chapter.content =
                    self.rewrite_page(html.git_repository_url.as_deref(), &page, &chapter.content);
            }
        });
        Ok(book)
    }
}

/// Removes `.` and `..`; returns `None` for a path that leaves its root.
fn normalized(path: &Path) -> Option<PathBuf> {
    let mut normalized = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => normalized.pop().then_some(())?,
            Component::Normal(name) => normalized.push(name),
            _ => {}
        }
    }
    Some(normalized)
}

/// Returns the relative path from one absolute folder to another.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(one, other)| one == other).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(repository: Option<&str>, page: &str, text: &str) -> (String, Vec<String>) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository");
        let links = RepositoryLinks::new(root.clone(), root.join("target/book"));
        let text = links.rewrite_page(repository, Path::new(page), text);
        (text, links.found().missing())
    }

    #[test]
    fn links_to_sources_leave_the_book() {
        let text =
            "[a](../README.md#installation \"x\"), [b](features.md#x), [c](https://a.example), `[d](../x)`";
        let (local, missing) = rewritten(None, "operations.md", text);
        assert_eq!(
            local,
            "[a](../../README%2Emd#installation \"x\"), [b](features.md#x), [c](https://a.example), `[d](../x)`"
        );
        assert!(missing.is_empty());
        let (hosted, _) =
            rewritten(Some("https://git.example/r/"), "benchmarks/README.md", "[a](../../README.md)");
        assert_eq!(hosted, "[a](https://git.example/r/blob/HEAD/README.md)");
    }

    #[test]
    fn links_to_folder_pages_name_the_index() {
        let (page, _) = rewritten(None, "performance.md", "[a](benchmarks/README.md#x), [b](sizing.md)");
        assert_eq!(page, "[a](benchmarks/index.md#x), [b](sizing.md)");
    }

    #[test]
    fn reports_missing_files() {
        let (_, missing) = rewritten(None, "operations.md", "[a](../nowhere.rs)");
        assert_eq!(missing, ["docs/operations.md: no file nowhere.rs"]);
    }
}
