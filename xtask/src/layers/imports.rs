//! Import graph of one crate.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fs, io};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

/// Modules of a crate by path, `a::b`; the root's path is empty.
pub(super) type Modules = BTreeMap<String, Module>;

/// Source file.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// Path below the source folder.
    pub(super) file: String,
    /// Imported modules, with the imported names.
    pub(super) imports: BTreeMap<String, BTreeSet<String>>,
}

/// Reads the sources of a crate.
///
/// Ignores test code, and re-exports that the file itself does not use.
pub(super) fn read(src: &Path) -> Result<Modules, String> {
    let mut sources = BTreeMap::new();
    collect(src, src, &mut sources).map_err(|error| format!("{}: {error}", src.display()))?;
    resolve(&sources)
}

fn collect(src: &Path, folder: &Path, sources: &mut BTreeMap<String, String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(src, &path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file = path.strip_prefix(src).unwrap_or(&path).to_string_lossy().into_owned();
            sources.insert(file, fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// Builds the import graph of files, given by path and text.
pub(super) fn resolve(sources: &BTreeMap<String, String>) -> Result<Modules, String> {
    let mut files = BTreeMap::new();
    for (file, text) in sources {
        let parsed = syn::parse_file(text).map_err(|error| format!("{file}: {error}"))?;
        let mut found =
            Paths { inline: Vec::new(), paths: Vec::new(), exports: Vec::new(), tests: Vec::new() };
        found.visit_file(&parsed);
        files.insert(module_of(file), (file.clone(), found, words(text)?));
    }
    let tests: BTreeSet<String> = files
        .iter()
        .flat_map(|(module, (_, found, _))| found.tests.iter().map(move |name| join(module, name)))
        .collect();
    let is_test = |module: &str| tests.iter().any(|test| is_within(module, test));
    let exports: BTreeMap<&str, BTreeMap<&str, &[String]>> = files
        .iter()
        .map(|(module, (_, found, _))| {
            let named = found.exports.iter().filter_map(|path| Some((path.last()?.as_str(), &path[..])));
            (module.as_str(), named.collect())
        })
        .collect();
    let mut modules = Modules::new();
    for (module, (file, found, words)) in &files {
        if is_test(module) {
            continue;
        }
        let is_used = |path: &&Vec<String>| {
            // The export itself is one occurrence.
            path.last().is_some_and(|name| words.get(name).is_some_and(|times| *times > 1))
        };
        let mut imports = BTreeMap::new();
        for path in found.paths.iter().chain(found.exports.iter().filter(is_used)) {
            let Some(target) = target(path, module, &files, &exports, 0) else { continue };
            if target != *module && !target.is_empty() && !is_test(&target) {
                let names: &mut BTreeSet<String> = imports.entry(target).or_default();
                names.extend(path.last().cloned());
            }
        }
        modules.insert(module.clone(), Module { file: file.clone(), imports });
    }
    Ok(modules)
}

/// Returns the module that defines the item of a path, following re-exports.
fn target<T>(
    path: &[String],
    from: &str,
    files: &BTreeMap<String, T>,
    exports: &BTreeMap<&str, BTreeMap<&str, &[String]>>,
    depth: usize,
) -> Option<String> {
    let mut at: Vec<&str> = from.split("::").filter(|part| !part.is_empty()).collect();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => (at, rest) = (Vec::new(), &path[1..]),
        "self" => rest = &path[1..],
        "super" => {
            while let Some(("super", behind)) =
                rest.split_first().map(|(first, behind)| (first.as_str(), behind))
            {
                at.pop();
                rest = behind;
            }
        }
        _ => return None,
    }
    while let Some((name, behind)) = rest.split_first() {
        let inner = [&at[..], &[name.as_str()]].concat().join("::");
        if !files.contains_key(&inner) {
            break;
        }
        at.push(name);
        rest = behind;
    }
    let found = at.join("::");
    let exported = rest.first().and_then(|name| exports.get(found.as_str())?.get(name.as_str()));
    match exported {
        Some(path) if depth < 8 => target(path, &found, files, exports, depth + 1),
        _ => Some(found),
    }
}

fn module_of(file: &str) -> String {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if matches!(path, "lib" | "main") { String::new() } else { path.replace('/', "::") }
}

fn join(module: &str, name: &str) -> String {
    if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") }
}

/// Returns whether a module equals another one or is below it.
pub(super) fn is_within(module: &str, outer: &str) -> bool {
    module.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Counts how often each word occurs.
fn words(text: &str) -> Result<BTreeMap<String, usize>, String> {
    fn count(tokens: TokenStream, words: &mut BTreeMap<String, usize>) {
        for token in tokens {
            match token {
                TokenTree::Ident(word) => *words.entry(word.to_string()).or_default() += 1,
                TokenTree::Group(group) => count(group.stream(), words),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }
    let mut words = BTreeMap::new();
    count(text.parse().map_err(|error| format!("{error}"))?, &mut words);
    Ok(words)
}

/// Paths of a file into its own crate.
struct Paths {
    /// Enclosing inline modules.
    inline: Vec<String>,
    paths: Vec<Vec<String>>,
    exports: Vec<Vec<String>>,
    /// Names of test modules.
    tests: Vec<String>,
}

impl Paths {
    fn add(&mut self, path: Vec<String>, is_export: bool) {
        let path = match (path.first().map(String::as_str), self.inline.len()) {
            (Some("crate"), _) | (Some("self" | "super"), 0) => path,
            // In an inline module, `self` and inner `super` paths stay in this file.
            (Some("super"), braces) => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                if ups < braces {
                    return;
                }
                let outer = if ups == braces {
                    vec!["self".to_owned()]
                } else {
                    vec!["super".to_owned(); ups - braces]
                };
                [outer, path[ups..].to_vec()].concat()
            }
            _ => return,
        };
        if is_export { self.exports.push(path) } else { self.paths.push(path) }
    }

    fn add_tree(&mut self, tree: &UseTree, mut before: Vec<String>, is_export: bool) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.add_tree(&path.tree, before, is_export);
            }
            UseTree::Name(name) => {
                if name.ident != "self" {
                    before.push(name.ident.to_string());
                }
                self.add(before, is_export);
            }
            UseTree::Rename(rename) => {
                before.push(rename.ident.to_string());
                self.add(before, false);
            }
            UseTree::Glob(_) => self.add(before, false),
            UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.add_tree(item, before.clone(), is_export));
            }
        }
    }

    /// Collects paths from the tokens of a macro or an attribute.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(word) if colons == 2 && !path.is_empty() => {
                    path.push(word.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => colons += 1,
                other => {
                    if path.len() > 1 {
                        self.add(std::mem::take(&mut path), false);
                    }
                    (path, colons) = (Vec::new(), 0);
                    match other {
                        TokenTree::Ident(word) if word == "crate" => path.push("crate".to_owned()),
                        TokenTree::Group(group) => self.add_tokens(group.stream()),
                        _ => {}
                    }
                }
            }
        }
        if path.len() > 1 {
            self.add(path, false);
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        match item {
            Item::Mod(module) if is_for_tests(attributes) => self.tests.push(module.ident.to_string()),
            _ if is_for_tests(attributes) => {}
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if module.content.is_some() {
            self.inline.push(module.ident.to_string());
            visit::visit_item_mod(self, module);
            self.inline.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_export = !matches!(item.vis, Visibility::Inherited);
        self.add_tree(&item.tree, Vec::new(), is_export);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.add(path.segments.iter().map(|segment| segment.ident.to_string()).collect(), false);
        }
        visit::visit_path(self, path);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.add_tokens(list.tokens.clone());
        }
    }

    fn visit_macro(&mut self, invoked: &'ast syn::Macro) {
        self.add_tokens(invoked.tokens.clone());
        visit::visit_macro(self, invoked);
    }
}

/// Returns whether an item is compiled for tests only.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        // `not(loom)` alone does not mean a test.
        let words = list.tokens.to_string();
        attribute.path().is_ident("cfg")
            && words.split(|part: char| !part.is_alphanumeric()).any(|word| word == "test")
    })
}
