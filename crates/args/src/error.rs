//! Errors of reading and writing arguments.

use thiserror::Error;

/// Reason why arguments could not be read or written.
///
/// `position` counts from 1. `reason` is the message of serde, shortened in the middle if it quotes much of the input.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ArgsError {
    /// The sender passed too few arguments; an `Option` reads a missing one as `None`.
    #[error("argument {position} is missing; send it, or read it as an Option")]
    Missing {
        /// Position of the argument.
        position: usize,
    },
    /// The sender passed a value of another type.
    #[error("argument {position} does not fit the type it is read as: {reason}")]
    Mismatch {
        /// Position of the argument.
        position: usize,
        /// Found and expected type.
        reason: String,
    },
    /// The sender's placeholders do not match its attachments.
    #[error("argument {position} does not match the attachments sent with it: {reason}")]
    Attachment {
        /// Position of the argument.
        position: usize,
        /// Problem with the placeholder.
        reason: String,
    },
    /// The text is not a list of comma-separated JSON values.
    #[error("argument {position} is not a JSON value: {reason}")]
    Syntax {
        /// Position of the argument.
        position: usize,
        /// Description of the invalid text.
        reason: String,
    },
    /// The application passed a value without a JSON form, such as a map with keys that are not strings.
    #[error("argument {position} cannot be written as JSON; pass another type: {reason}")]
    Unserializable {
        /// Position of the argument.
        position: usize,
        /// Error of serde_json or of the type's `Serialize`.
        reason: String,
    },
    /// A handler parameter reads a value that the application never provided.
    #[error("no value of type {what} provided; {repair}")]
    Absent {
        /// Type of the missing value.
        what: &'static str,
        /// How to provide it.
        repair: &'static str,
    },
}

impl ArgsError {
    /// Returns the position of the argument, counted from 1, or 0 if the error concerns none.
    pub fn position(&self) -> usize {
        match self {
            Self::Absent { .. } => 0,
            Self::Missing { position }
            | Self::Mismatch { position, .. }
            | Self::Attachment { position, .. }
            | Self::Syntax { position, .. }
            | Self::Unserializable { position, .. } => *position,
        }
    }

    pub(super) fn mismatch(position: usize, error: &serde_json::Error) -> Self {
        Self::Mismatch { position, reason: abridge(&error.to_string()) }
    }

    pub(super) fn attachment(position: usize, error: &serde_json::Error) -> Self {
        Self::Attachment { position, reason: abridge(&error.to_string()) }
    }

    pub(super) fn syntax(position: usize, reason: &str) -> Self {
        Self::Syntax { position, reason: abridge(reason) }
    }

    pub(super) fn unserializable(position: usize, error: &serde_json::Error) -> Self {
        Self::Unserializable { position, reason: abridge(&error.to_string()) }
    }
}

/// Shortens a reason, keeping the expected type at its end.
///
/// Serde quotes a mismatched string in full, so a peer could fill logs.
fn abridge(reason: &str) -> String {
    if reason.len() <= 2 * REASON_PART {
        return reason.to_owned();
    }
    let is_boundary = |at: &usize| reason.is_char_boundary(*at);
    let head = (0..=REASON_PART).rev().find(is_boundary).unwrap_or_default();
    let tail = (reason.len() - REASON_PART..).find(is_boundary).unwrap_or(reason.len());
    format!("{} … {}", &reason[..head], &reason[tail..])
}

/// Bytes kept of each end of a long reason.
const REASON_PART: usize = 150;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reasons_keep_both_ends() {
        let error = serde_json::from_str::<u32>(&format!("{:?}", "ä".repeat(100_000))).unwrap_err();
        let ArgsError::Mismatch { reason, .. } = ArgsError::mismatch(1, &error) else { panic!() };
        assert!(reason.len() <= 2 * REASON_PART + " … ".len(), "{}", reason.len());
        assert!(reason.starts_with("invalid type: string \"ä"), "{reason}");
        assert!(reason.contains("expected u32 at line 1"), "{reason}");
    }

    #[test]
    fn short_reasons_stay_whole() {
        let error = serde_json::from_str::<u32>("true").unwrap_err();
        assert_eq!(
            ArgsError::mismatch(2, &error).to_string(),
            "argument 2 does not fit the type it is read as: \
             invalid type: boolean `true`, expected u32 at line 1 column 4",
        );
    }
}
