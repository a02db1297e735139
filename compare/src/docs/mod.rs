//! Documents whose figures are generated from the results of a comparison.
//!
//! Every figure of a comparison in a document is in a block, which names the figure (`figures`) and is replaced by it
//! (`blocks`). The figures of the cost guard come from `benches/costs.json` in the same way. [`results`] rewrites the
//! documents, or checks them: `cargo xtask results`.

mod blocks;
mod cluster;
mod figures;
mod habits;
mod sizing;
mod streams;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use figures::Figures;
pub(crate) use figures::PRODUCTS;
use roomcast_loadgen::{Error, ErrorContext as _};

use crate::document::Record;
use crate::targets;

/// Regenerate the report, its plots and the figures of all documents from docs/benchmarks/results.json
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "results")]
pub struct Options {
    /// Only compare the files with the results, and name the differences and the targets without a result
    #[arg(long)]
    pub check: bool,
}

/// Rewrites or checks the documents; returns whether they match the results.
///
/// # Errors
///
/// Fails if a file cannot be read or written, or, without `--check`, if a document has a malformed or unknown block.
pub fn results(options: &Options) -> Result<bool, Error> {
    let project = Project::here();
    let folder = project.report();
    let record = Record::read(&folder.join("results.json"))?;
    if !options.check {
        record.write_report(&folder)?;
        for document in project.rewrite(&record)? {
            println!("rewritten: {}", document.display());
        }
        return Ok(true);
    }
    let problems = project.check(&record)?;
    for problem in &problems {
        println!("{problem}");
    }
    println!("{} problems in the figures of the comparison of {}", problems.len(), record.date());
    if !problems.is_empty() {
        println!(
            "`cargo xtask results` rewrites report and documents from docs/benchmarks/results.json; \
             `cargo xtask compare` measures anew"
        );
    }
    Ok(problems.is_empty())
}

/// Root folder of the project, with its documents.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Project<'a>(pub(crate) &'a Path);

impl Project<'static> {
    /// Returns the project that this program belongs to.
    pub(crate) fn here() -> Self {
        Self(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")))
    }
}

impl Project<'_> {
    /// Rewrites the blocks of all documents; returns the changed paths.
    pub(crate) fn rewrite(self, record: &Record) -> Result<Vec<PathBuf>, Error> {
        let (habits, clusters) = (self.further(HABITS)?, self.clusters()?);
        let figures = Figures::new(record, &self.costs()?).map_err(Error::Usage)?;
        let figures = figures.with_habits(habits.as_ref()).with_clusters(&clusters);
        let (mut changed, mut problems) = (Vec::new(), Vec::new());
        for path in self.documents()? {
            let text = read(&path)?;
            match blocks::fill(&text, |name| figures.render(name)) {
                Ok(filled) if filled != text => changed.push((path, filled)),
                Ok(_) => {}
                Err(found) => problems.extend(self.located(&path, found)),
            }
        }
        if !problems.is_empty() {
            return Err(Error::Usage(problems.join("\n")));
        }
        let write = |(path, text): (PathBuf, String)| {
            fs::write(&path, text).doing(|| format!("write {}", path.display()))?;
            Ok(path.strip_prefix(self.0).unwrap_or(&path).to_owned())
        };
        changed.into_iter().map(write).collect()
    }

    /// Returns the differences of documents and report from the results, and the targets under the comparison's loads
    /// that have no result.
    pub(crate) fn check(self, record: &Record) -> Result<Vec<String>, Error> {
        let (habits, clusters) = (self.further(HABITS)?, self.clusters()?);
        let figures = Figures::new(record, &self.costs()?).map_err(Error::Usage)?;
        let figures = figures.with_habits(habits.as_ref()).with_clusters(&clusters);
        let mut problems = Vec::new();
        for path in self.documents()? {
            let text = read(&path)?;
            match blocks::fill(&text, |name| figures.render(name)) {
                Ok(filled) => {
                    let stale = blocks::stale(&text, &filled).into_iter();
                    let stale =
                        stale.map(|(line, name)| (line, format!("`{name}` differs from the results")));
                    problems.extend(self.located(&path, stale.collect()));
                }
                Err(found) => problems.extend(self.located(&path, found)),
            }
        }
        let folder = self.report();
        for (name, text) in record.files() {
            if fs::read_to_string(folder.join(&name)).ok().as_deref() != Some(text.as_str()) {
                problems.push(format!("docs/benchmarks/{name}: differs from the results"));
            }
        }
        for plot in record.obsolete_plots(&folder)? {
            problems.push(format!("docs/benchmarks/{plot}: belongs to no scenario of the results"));
        }
        let missing = targets::not_measured(&record.loads, [&*record.runs].into_iter()).into_iter();
        problems.extend(missing.map(|row| format!("docs/benchmarks/results.json: no result of {row}")));
        // Each target needs a result in one of these files.
        let of_all = || clusters.iter().map(|(_, record)| record);
        let loads: Vec<String> = of_all().flat_map(|record| record.loads.clone()).collect();
        let missing = targets::not_measured(&loads, of_all().map(|record| &*record.runs));
        let missing =
            missing.into_iter().map(|row| format!("docs/benchmarks/cluster*.json: no result of {row}"));
        problems.extend(missing);
        Ok(problems)
    }

    /// Returns the folder of the report.
    pub(crate) fn report(self) -> PathBuf {
        self.0.join("docs/benchmarks")
    }

    fn costs(self) -> Result<String, Error> {
        read(&self.0.join("benches/costs.json"))
    }

    /// Reads the results of servers in clusters, by the name of their blocks.
    fn clusters(self) -> Result<Vec<(&'static str, Record)>, Error> {
        let read =
            |name: &&'static str| Ok(self.further(&format!("{name}.json"))?.map(|record| (*name, record)));
        CLUSTERS.iter().filter_map(|name| read(name).transpose()).collect()
    }

    /// Reads the results of a partial comparison from the folder of the report, if there are any.
    fn further(self, name: &str) -> Result<Option<Record>, Error> {
        let path = self.report().join(name);
        if path.is_file() { Record::read(&path).map(Some) } else { Ok(None) }
    }

    /// Returns the documents that may have blocks, in alphabetical order.
    fn documents(self) -> Result<Vec<PathBuf>, Error> {
        let folder = self.0.join("docs");
        let entries = fs::read_dir(&folder).doing(|| format!("read {}", folder.display()))?;
        let mut documents: Vec<PathBuf> = ["README.md", "ARCHITECTURE.md"].map(|it| self.0.join(it)).into();
        documents.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        documents.retain(|path| path.extension().is_some_and(|found| found == "md") && path.is_file());
        documents.sort();
        Ok(documents)
    }

    fn located(self, path: &Path, problems: Vec<(usize, String)>) -> Vec<String> {
        let path = path.strip_prefix(self.0).unwrap_or(path).display();
        problems.into_iter().map(|(line, problem)| format!("{path}:{line}: {problem}")).collect()
    }
}

/// Results of `compare --habits`, copied from the folder of the report.
const HABITS: &str = "habits.json";
/// Names of the results of servers in clusters, each of a run of `compare`.
const CLUSTERS: [&str; 4] = ["cluster", "cluster-sharded", "cluster-rooms", "cluster-streams"];

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).doing(|| format!("read {}", path.display()))
}
