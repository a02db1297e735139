//! Markdown pages of the book.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mdbook_driver::MDBook;
use mdbook_driver::book::BookItem;

/// Returns all Markdown files below `docs`, sorted, as paths relative to it.
pub(crate) fn files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let docs = root.join("docs");
    let (mut folders, mut files) = (vec![docs.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                files.push(path.strip_prefix(&docs).unwrap_or(&path).to_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Returns a problem for each page that is not in `SUMMARY.md`, since mdBook leaves it out.
pub(crate) fn unlisted(root: &Path, book: &MDBook) -> io::Result<Vec<String>> {
    let listed = |file: &PathBuf| {
        file == Path::new("SUMMARY.md")
            || book.iter().any(
                |item| matches!(item, BookItem::Chapter(chapter) if chapter.source_path.as_ref() == Some(file)),
            )
    };
    let files = files(root)?.into_iter().filter(|file| !listed(file));
    Ok(files.map(|file| format!("docs/{}: not in SUMMARY.md", file.display())).collect())
}
