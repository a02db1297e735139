//! Builds the book in `docs` and checks its links and its code: `cargo xtask test book tutorial`.

mod error;
mod links;
mod pages;
mod repository;
mod shell;
mod walkthrough;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use mdbook_driver::MDBook;

use crate::error::Problems;

/// Builds the book and checks its links, runs its shell commands, or follows its tutorial
#[derive(Debug, Parser)]
enum Cli {
    /// Build the book as HTML and check every link, including those to files of the repository
    Build {
        /// Folder of the HTML; default: `target/book`
        #[arg(long)]
        dest: Option<PathBuf>,
    },
    /// Check the shell and JavaScript code of all pages, and run the blocks marked `sh,run`
    Shell {
        /// Folder with the built command `roomcast`
        #[arg(long, default_value = "target/debug")]
        bin_dir: PathBuf,
    },
    /// Follow the tutorial in an empty folder: build, start and use the program after each section
    Tutorial {
        /// Target folder of the program, shared with the repository to use its compiled dependencies
        #[arg(long, default_value = "target")]
        target_dir: PathBuf,
    },
}

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let done = match Cli::parse() {
        Cli::Build { dest } => build(&root, dest),
        Cli::Shell { bin_dir } => shell::check(&root, &bin_dir),
        Cli::Tutorial { target_dir } => walkthrough::follow(&root, &target_dir),
    };
    match done {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(Problems(problems)) => {
            problems.iter().for_each(|problem| println!("{problem}"));
            println!("{} problems", problems.len());
            ExitCode::FAILURE
        }
    }
}

/// Builds the book and checks its links; returns a summary.
fn build(root: &Path, dest: Option<PathBuf>) -> Result<String, Problems> {
    let mut book = MDBook::load(root)?;
    if let Some(dest) = dest {
        // mdBook resolves it against the folder of `book.toml`.
        book.config.build.build_dir = std::path::absolute(dest)?;
    }
    let address = env!("CARGO_PKG_REPOSITORY");
    if !address.is_empty() {
        book.config.set("output.html.git-repository-url", address)?;
    }
    let dest = book.build_dir_for("html");
    std::fs::create_dir_all(&dest)?;
    let root = root.canonicalize()?;
    let repository = repository::RepositoryLinks::new(root.clone(), dest.canonicalize()?);
    let outside = repository.found();
    book.with_preprocessor(repository);
    book.build()?;
    let mut problems = pages::unlisted(&root, &book)?;
    problems.extend(outside.missing());
    let checked = links::check(&dest)?;
    problems.extend(checked.problems);
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    Ok(format!(
        "{} pages and {} links, {} of them to files of the repository; see {}",
        checked.pages,
        checked.links,
        outside.count(),
        dest.join("index.html").display()
    ))
}
