//! Checks that the functions named in the control-flow lists of `ARCHITECTURE.md` exist.

use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};

/// Marker above the numbered lists.
const WAYS: &str = "<!-- checked: ways -->";

/// Checks all steps and returns their number.
///
/// # Errors
///
/// Returns a description of each step whose file or function does not exist.
pub(super) fn check(root: &Path, text: &str) -> Result<usize, Vec<String>> {
    let Some((_, behind)) = text.split_once(WAYS) else { return Err(vec![format!("no marker `{WAYS}`")]) };
    let section = behind.split("\n## ").next().unwrap_or(behind);
    let steps: Vec<&str> = section.lines().filter(|line| is_step(line)).collect();
    let problems: Vec<String> = steps.iter().filter_map(|step| problem(root, step)).collect();
    match steps.len() {
        0 => Err(vec![format!("no steps after `{WAYS}`")]),
        count if problems.is_empty() => Ok(count),
        _ => Err(problems),
    }
}

/// Returns whether a line is an item of a numbered list.
fn is_step(line: &str) -> bool {
    let number = line.trim_start_matches(|digit: char| digit.is_ascii_digit());
    number.len() < line.len() && number.starts_with(". ")
}

fn problem(root: &Path, step: &str) -> Option<String> {
    let spans: Vec<&str> = step.split('`').skip(1).step_by(2).collect();
    let [file, function, ..] = spans[..] else {
        return Some(format!("a step needs a file and a function in backticks: {step}"));
    };
    let Ok(source) = fs::read_to_string(root.join(file)) else {
        return Some(format!("no file {file}"));
    };
    let name = function.rsplit("::").next().unwrap_or(function);
    let Ok(tokens) = source.parse() else { return Some(format!("{file} is not Rust")) };
    (!defines(tokens, name)).then(|| format!("{file} has no function {name}"))
}

/// Returns whether a function of this name is defined.
fn defines(tokens: TokenStream, name: &str) -> bool {
    let mut is_fn = false;
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(word) => std::mem::replace(&mut is_fn, word == "fn") && word == name,
        TokenTree::Group(group) => defines(group.stream(), name),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_functions_named_by_steps() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = |steps: &str| format!("x\n{WAYS}\n\n{steps}\n\n## Next\n\n1. `nothing`\n");
        let check = |steps: &str| check(root, &text(steps));
        assert_eq!(
            check("1. `src/layers/ways.rs` `check` looks\n2. `src/layers/ways.rs` `A::is_step`"),
            Ok(2)
        );
        let problems =
            check("1. `src/layers/ways.rs` `checks`\n2. `src/no.rs` `f`\n10. `src/main.rs`").unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].contains("no function checks"), "{problems:?}");
        assert!(check("nothing").is_err());
    }
}
