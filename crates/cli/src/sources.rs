//! Sources of settings: the flag or environment variable that an error names.

use std::env;
use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

/// Parsed command line, to look up the source of a setting.
#[derive(Debug)]
pub(crate) struct Sources<'a>(pub(crate) &'a ArgMatches);

impl Sources<'_> {
    /// Returns the variable that set the setting, or else its flag, such as `--max-payload`.
    pub(crate) fn name(&self, id: &str) -> String {
        let known = self.0.try_contains_id(id).is_ok();
        match known.then(|| self.0.value_source(id)).flatten() {
            Some(ValueSource::EnvVariable) => format!("ROOMCAST_{}", id.to_uppercase()),
            _ => format!("--{}", id.replace('_', "-")),
        }
    }

    /// Returns whether the command line sets it.
    #[cfg(feature = "redis")]
    pub(crate) fn is_typed(&self, id: &str) -> bool {
        self.0.value_source(id) == Some(ValueSource::CommandLine)
    }

    /// Returns whether a flag or a variable sets it.
    pub(crate) fn is_set(&self, id: &str) -> bool {
        self.0.value_source(id).is_some_and(|source| source != ValueSource::DefaultValue)
    }
}

/// Returns a note with the environment variables that caused a usage error.
///
/// `command` is the subcommand of the flags, `words` is the command line.
pub(crate) fn variables(error: &clap::Error, command: &Command, words: &[OsString]) -> Option<String> {
    let named: Vec<&String> = error
        .context()
        .filter(|(kind, _)| matches!(kind, ContextKind::InvalidArg | ContextKind::PriorArg))
        .flat_map(|(_, value)| match value {
            ContextValue::String(name) => std::slice::from_ref(name),
            ContextValue::Strings(names) => names.as_slice(),
            _ => &[],
        })
        .collect();
    // clap does not name the argument that requires the missing one.
    let any = error.kind() == ErrorKind::MissingRequiredArgument;
    let is_typed = |flag: &str| {
        let flag = format!("--{flag}");
        let is_it = |word: &OsStr| {
            let word = word.to_string_lossy();
            word.strip_prefix(&flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        words.iter().any(|word| is_it(word))
    };
    let set: Vec<&str> = command
        .get_arguments()
        .filter(|argument| {
            let Some(flag) = argument.get_long() else { return false };
            let is_named =
                named.iter().any(|name| name.split([' ', '=']).next() == Some(&format!("--{flag}")));
            (any || is_named) && !is_typed(flag)
        })
        .filter_map(|argument| argument.get_env())
        .filter(|variable| env::var_os(variable).is_some())
        .filter_map(OsStr::to_str)
        .collect();
    match set.as_slice() {
        [] => None,
        [one] => Some(format!("  note: set by the environment variable {one}")),
        several => Some(format!("  note: set by the environment variables {}", several.join(", "))),
    }
}
