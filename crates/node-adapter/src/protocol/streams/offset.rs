//! Position of a client in the stream.

use std::fmt;
use std::str::FromStr;

use bytestring::ByteString;

use crate::EntryId;

/// Offset of an event, which tells what its receiver has of the stream.
///
/// Usually the id of an entry. While a node delivers its own events although they are not read back from the stream,
/// the offsets of all events to its clients are *provisional*: they have the last own event too. A client that returns
/// with such an offset receives none of these events again, wherever they are in the stream, and the offsets of events
/// that are replayed before the last of them are provisional too. Its text is `ID/SENDER/NUMBER`; Node refuses it, and
/// its client begins anew.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a pair")]
pub struct StreamOffset {
    /// Last entry up to which all events have arrived.
    pub id: EntryId,
    /// Later entries whose events have arrived.
    pub released: Option<ReleasedEntries>,
}

/// Entries of one sender up to a [number](crate::StreamEntry::number).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a pair")]
pub struct ReleasedEntries {
    /// Id of the node that wrote them.
    pub sender: ByteString,
    /// Number of the last one.
    pub number: u64,
}

impl fmt::Display for StreamOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.released {
            None => write!(f, "{}", self.id),
            Some(ReleasedEntries { sender, number }) => write!(f, "{}/{sender}/{number}", self.id),
        }
    }
}

/// Text that is not an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidStreamOffset;

impl FromStr for StreamOffset {
    type Err = InvalidStreamOffset;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (id, released) = match text.split_once('/') {
            None => (text, None),
            Some((id, rest)) => {
                let (sender, number) = rest.split_once('/').ok_or(InvalidStreamOffset)?;
                let number = number.parse().map_err(|_| InvalidStreamOffset)?;
                (id, Some(ReleasedEntries { sender: sender.into(), number }))
            }
        };
        Ok(Self { id: id.parse().map_err(|_| InvalidStreamOffset)?, released })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_again() {
        for text in ["5-0", "1764443262000-17/0123456789abcdef/42"] {
            let offset: StreamOffset = text.parse().expect("an offset");
            assert_eq!(offset.to_string(), text);
        }
        for text in ["", "5", "5-0/", "5-0/uid", "5-0/uid/", "5-0/uid/x", "/uid/1"] {
            assert_eq!(text.parse::<StreamOffset>(), Err(InvalidStreamOffset), "{text}");
        }
    }
}
