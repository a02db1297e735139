//! `cargo xtask packages`: packages the public crates as for a release, and tests the packages.
//!
//! `cargo package` makes an archive of each public crate. The archives are unpacked side by side into a workspace that
//! uses them in place of the registry, so a file that a package reads but does not contain is missing there. With
//! `--release`, the packages must also name the repository, and `cargo publish --dry-run` must accept them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::Value;

use crate::process::succeed;
use crate::project::{Project, cargo};

/// Fields that the manifest of each package must have.
const FIELDS: [&str; 5] = ["description", "license", "readme", "keywords", "categories"];
/// Files that each package must contain.
const FILES: [&str; 3] = ["README.md", "LICENSE-APACHE", "LICENSE-MIT"];

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Options {
    /// Compile the tests without running them
    #[arg(long)]
    quick: bool,
    /// Check also what a release needs: the address of the repository, and a dry run of `cargo publish`
    #[arg(long)]
    release: bool,
}

/// Packages the public crates and checks the archives.
pub(crate) fn run(project: &Project, options: Options) -> ExitCode {
    match packages(project, options) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn packages(project: &Project, options: Options) -> Result<String, String> {
    let metadata = metadata(project)?;
    let (public, private) = members(&metadata);
    let mut problems: Vec<_> = public.iter().flat_map(|package| missing_fields(package)).collect();
    if options.release {
        problems.extend(public.iter().filter_map(|package| repository_problem(package)));
    }
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    let mut package = Command::new(cargo());
    package.args(["package", "--workspace", "--no-verify", "--allow-dirty", "--quiet"]);
    private.iter().for_each(|name| _ = package.args(["--exclude", name]));
    succeed(package.current_dir(&project.root))?;

    let folder = project.target.join("xtask").join("packages");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for package in &public {
        unpack(project, &folder, package, &public)?;
    }
    write_workspace(project, &folder, &public)?;

    let (testable, untestable): (Vec<_>, Vec<_>) =
        public.iter().partition(|package| is_testable(package, &public));
    let run = |arguments: &[&str], packages: &[&&Value]| {
        let mut command = Command::new(cargo());
        command.args(arguments);
        packages.iter().for_each(|package| _ = command.args(["--package", text(package, "name")]));
        // The same folder, so that dependencies are not built again.
        succeed(command.arg("--target-dir").arg(&project.target).current_dir(&folder))
    };
    match options.quick {
        true => run(&["check", "--all-targets"], &testable)?,
        false => run(&["test", "--no-fail-fast"], &testable)?,
    }
    if !untestable.is_empty() {
        run(&["check"], &untestable)?;
    }
    if options.release {
        let mut publish = Command::new(cargo());
        succeed(publish.args(["publish", "--workspace", "--dry-run"]).current_dir(&project.root))?;
    }
    let done = if options.quick { "compiled with their tests" } else { "tested" };
    let hint = match public.iter().all(|package| repository_problem(package).is_none()) {
        true => "",
        false => "; `repository` is not set, see \"Before the first release\" in CONTRIBUTING.md",
    };
    Ok(format!("{} packages, {} of them {done}{hint}", public.len(), testable.len()))
}

fn metadata(project: &Project) -> Result<Value, String> {
    let mut command = Command::new(cargo());
    command.args(["metadata", "--format-version=1", "--no-deps"]).current_dir(&project.root);
    let output = command.output().map_err(|error| format!("could not run cargo metadata: {error}"))?;
    serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))
}

/// Returns the packages that can be published, and the names of the others.
fn members(metadata: &Value) -> (Vec<&Value>, Vec<&str>) {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_public =
        |package: &&Value| package["publish"].as_array().is_none_or(|registries| !registries.is_empty());
    let (public, private): (Vec<_>, Vec<_>) = packages.iter().partition(is_public);
    (public, private.into_iter().filter_map(|package| package["name"].as_str()).collect())
}

fn missing_fields(package: &Value) -> Vec<String> {
    let name = text(package, "name");
    let is_empty = |field: &Value| field.is_null() || field.as_array().is_some_and(Vec::is_empty);
    let fields = FIELDS.iter().filter(|field| is_empty(&package[**field]));
    let mut problems: Vec<_> = fields.map(|field| format!("{name}: no {field}")).collect();
    if package["metadata"]["docs"]["rs"]["all-features"] != true {
        problems.push(format!("{name}: no `all-features = true` in package.metadata.docs.rs"));
    }
    problems
}

/// Returns the problem of a package whose `repository` is not a public address.
fn repository_problem(package: &Value) -> Option<String> {
    let address = text(package, "repository");
    let is_public = address.strip_prefix("https://").is_some_and(|rest| rest.contains('/'));
    let name = text(package, "name");
    (!is_public).then(|| {
        format!("{name}: repository is {address:?}, not an https address; set it in [workspace.package] of Cargo.toml")
    })
}

fn unpack(project: &Project, folder: &Path, package: &Value, public: &[&Value]) -> Result<(), String> {
    let full = full_name(package);
    let archive = project.target.join("package").join(format!("{full}.crate"));
    succeed(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(folder))?;
    let unpacked = folder.join(&full);
    for file in FILES {
        let path = unpacked.join(file);
        if !fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() > 0) {
            return Err(format!("{full}: the package does not contain {file}"));
        }
    }
    let manifest = unpacked.join("Cargo.toml");
    let mut text = read(&manifest)?;
    if is_testable(package, public) {
        text.push_str(&restored(package));
    }
    write(&manifest, &text)
}

/// Returns the development dependencies without a version, which cargo leaves out of the package: name and features.
fn stripped(package: &Value) -> Vec<(&str, &Value)> {
    let all = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_stripped = |it: &&Value| it["kind"] == "dev" && it["path"].is_string() && it["req"] == "*";
    all.iter().filter(is_stripped).map(|it| (text(it, "name"), &it["features"])).collect()
}

/// Returns whether the tests of a package need no crate that is not published.
fn is_testable(package: &Value, public: &[&Value]) -> bool {
    stripped(package).iter().all(|(name, _)| public.iter().any(|package| package["name"] == *name))
}

/// Returns the stripped dependencies as a part of a manifest.
fn restored(package: &Value) -> String {
    let mut manifest = String::new();
    for (name, features) in stripped(package) {
        // A list of strings has the same form in JSON and TOML.
        manifest.push_str(&format!("\n[dev-dependencies.{name}]\nversion = \"*\"\nfeatures = {features}\n"));
    }
    manifest
}

/// Writes a workspace of the packages, with the profiles and the locked versions of the project.
fn write_workspace(project: &Project, folder: &Path, packages: &[&Value]) -> Result<(), String> {
    let mut manifest =
        "[workspace]\nresolver = \"3\"\nmembers = [\"roomcast*\"]\n\n[patch.crates-io]\n".to_owned();
    let paths: BTreeMap<_, _> =
        packages.iter().map(|package| (text(package, "name"), full_name(package))).collect();
    paths.iter().for_each(|(name, path)| manifest.push_str(&format!("{name} = {{ path = \"{path}\" }}\n")));
    let root = read(&project.root.join("Cargo.toml"))?;
    manifest.push_str(&profiles(&root));
    write(&folder.join("Cargo.toml"), &manifest)?;
    write(&folder.join("Cargo.lock"), &read(&project.root.join("Cargo.lock"))?)
}

/// Returns the sections of a manifest that define profiles.
fn profiles(manifest: &str) -> String {
    let sections = manifest.split("\n[").skip(1).filter(|section| section.starts_with("profile."));
    sections.map(|section| format!("\n[{}\n", section.trim_end())).collect()
}

fn full_name(package: &Value) -> String {
    format!("{}-{}", text(package, "name"), text(package, "version"))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &PathBuf, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reports_missing_fields() {
        let docs = json!({ "docs": { "rs": { "all-features": true } } });
        let complete = json!({
            "name": "a", "description": "x", "license": "MIT", "readme": "README.md", "keywords": ["x"],
            "categories": ["x"], "metadata": docs,
        });
        assert_eq!(missing_fields(&complete), [""; 0]);
        let missing =
            missing_fields(&json!({ "name": "a", "license": "MIT", "keywords": [], "metadata": null }));
        assert_eq!(missing.len(), 5, "{missing:?}");
    }

    #[test]
    fn reports_unset_repository() {
        let package = |address: &str| json!({ "name": "a", "repository": address });
        assert!(repository_problem(&package("")).is_some());
        assert!(repository_problem(&json!({ "name": "a", "repository": null })).is_some());
        assert_eq!(repository_problem(&package("https://git.example/a/b")), None);
    }

    #[test]
    fn restores_stripped_dependencies_only() {
        let package = json!({ "dependencies": [
            { "name": "kit", "kind": "dev", "path": "/kit", "req": "*", "features": ["client"] },
            { "name": "core", "kind": null, "path": "/core", "req": "^0.1.0", "features": [] },
            { "name": "bytes", "kind": "dev", "req": "*", "features": [] },
        ] });
        let added = "\n[dev-dependencies.kit]\nversion = \"*\"\nfeatures = [\"client\"]\n";
        assert_eq!(restored(&package), added);
        assert!(is_testable(&package, &[&json!({ "name": "kit" })]));
        assert!(!is_testable(&package, &[&json!({ "name": "core" })]));
    }

    #[test]
    fn copies_profiles_only() {
        let manifest =
            "[workspace]\na = 1\n\n[profile.dev]\nb = 2\n\n[lints]\nc = 3\n\n[profile.release]\nd = 4\n";
        assert_eq!(profiles(manifest), "\n[profile.dev]\nb = 2\n\n[profile.release]\nd = 4\n");
    }
}
