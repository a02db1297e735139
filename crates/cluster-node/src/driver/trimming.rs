//! Length at which the stream is trimmed by others.

use roomcast_node_adapter::EntryId;

/// Observed trimming of the stream.
///
/// The smallest limit of any writer applies to all, and none is stored with the stream. Redis trims whole blocks of
/// entries and leaves at least the limit. So a stream that lost its first entries and is shorter than the limit of this
/// node was trimmed by another one.
#[derive(Debug, Default)]
pub(super) struct Trimming {
    first: Option<EntryId>,
    last: Option<EntryId>,
    smallest: Option<u64>,
}

impl Trimming {
    /// Notes the state of the stream; returns whether a smaller limit than before was found.
    pub(super) fn observe(
        &mut self,
        first: Option<EntryId>,
        last: Option<EntryId>,
        len: u64,
        own_limit: u64,
    ) -> bool {
        // Otherwise the stream was replaced.
        let is_same = self.last <= last;
        let was_trimmed = is_same && self.first.is_some() && self.first < first;
        (self.first, self.last) = (first, last);
        if !was_trimmed || len >= own_limit || self.smallest.is_some_and(|limit| limit <= len + len / 4) {
            return false;
        }
        self.smallest = Some(len);
        true
    }

    pub(super) fn smallest(&self) -> Option<u64> {
        self.smallest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(milliseconds: u64) -> Option<EntryId> {
        Some(EntryId::new(milliseconds, 0))
    }

    #[test]
    fn smaller_limit_is_found_once() {
        let mut trimming = Trimming::default();
        assert!(!trimming.observe(id(1), id(500), 500, 1000), "a short stream");
        assert!(!trimming.observe(id(1), id(1100), 1100, 1000));
        assert!(!trimming.observe(id(200), id(1300), 1100, 1000), "trimmed by this limit");
        assert!(trimming.observe(id(1300), id(1400), 101, 1000));
        assert_eq!(trimming.smallest(), Some(101));
        assert!(!trimming.observe(id(1400), id(1500), 100, 1000), "about the same");
        assert!(!trimming.observe(id(1500), id(1600), 199, 1000), "between two trims");
        assert!(trimming.observe(id(1600), id(1700), 10, 1000), "yet another one");
    }

    #[test]
    fn replaced_stream_is_not_trimmed() {
        let mut trimming = Trimming::default();
        assert!(!trimming.observe(id(1), id(500), 500, 1000));
        assert!(!trimming.observe(None, None, 0, 1000));
        assert!(!trimming.observe(id(600), id(700), 10, 1000));
        let mut trimming = Trimming::default();
        assert!(!trimming.observe(id(1000), id(2000), 500, 1000));
        assert!(!trimming.observe(id(1100), id(1200), 10, 1000), "after a step of the clock");
    }
}
