//! What can be wrong with arguments

use thiserror::Error;

/// Why arguments could not be read or written
///
/// `position` counts from 1. `reason` is the message of serde, cut in its middle where it quotes much of the input.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ArgsError {
    /// The sender passed fewer arguments than are read; an `Option` reads a missing one as `None`
    #[error("argument {position} is missing; send it, or read it as an Option")]
    Missing {
        /// Which argument
        position: usize,
    },
    /// The sender passed something other than the type that is read
    #[error("argument {position} does not fit the type it is read as: {reason}")]
    Mismatch {
        /// Which argument
        position: usize,
        /// What was found and what was expected
        reason: String,
    },
    /// The sender's placeholders and attachments do not go together
    #[error("argument {position} does not match the attachments sent with it: {reason}")]
    Attachment {
        /// Which argument
        position: usize,
        /// What is wrong with the placeholder
        reason: String,
    },
    /// Whoever made the text made something other than JSON values separated by commas
    #[error("argument {position} is not a JSON value: {reason}")]
    Syntax {
        /// Which argument
        position: usize,
        /// What was found
        reason: String,
    },
    /// The application passed a value that JSON cannot hold, such as a map whose keys are no strings
    #[error("argument {position} cannot be written as JSON; pass another type: {reason}")]
    Unserializable {
        /// Which argument
        position: usize,
        /// What serde_json, or the type's `Serialize`, objects to
        reason: String,
    },
    /// The application asked for something beside the arguments that it never put there
    #[error("there is no {what} to be handed over; {repair}")]
    Absent {
        /// The type that was asked for
        what: &'static str,
        /// How it gets there
        repair: &'static str,
    },
}

impl ArgsError {
    /// Which argument, counted from 1; 0 if it is none
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

/// Serde quotes a string that does not fit in full, so a peer could fill logs. What was expected stands at the end.
fn abridge(reason: &str) -> String {
    if reason.len() <= 2 * REASON_PART {
        return reason.to_owned();
    }
    let head = &reason[..reason.floor_char_boundary(REASON_PART)];
    let tail = &reason[reason.ceil_char_boundary(reason.len() - REASON_PART)..];
    format!("{head} … {tail}")
}

/// Bytes kept of each end of a long reason
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
