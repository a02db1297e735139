//! Names that messages repeat.

use std::borrow::Borrow;
use std::hash::BuildHasher;

use bytestring::ByteString;
use foldhash::fast::RandomState;
use roomcast_core::Room;

/// Names of the messages of a namespace, which share them instead of allocating each again.
#[derive(Debug, Default)]
pub(crate) struct RecentNames {
    pub(super) events: Recent<ByteString>,
    pub(super) rooms: Recent<Room>,
}

/// Cache of names with one place for each hash, so it is small and cannot grow.
#[derive(Debug)]
pub(super) struct Recent<T> {
    /// Empty, or of a fixed length.
    places: Vec<Option<T>>,
    hasher: RandomState,
}

impl<T: Borrow<str> + Clone + From<String>> Recent<T> {
    /// Returns the name with this text; U+FFFD replaces bytes that are not UTF-8.
    pub(super) fn get(&mut self, text: &[u8]) -> T {
        let make = || T::from(String::from_utf8_lossy(text).into_owned());
        if text.len() > MAX_LEN {
            return make();
        }
        let place = self.hasher.hash_one(text) as usize % PLACES;
        if let Some(Some(name)) = self.places.get(place)
            && name.borrow().as_bytes() == text
        {
            return name.clone();
        }
        self.places.resize(PLACES, None);
        self.places[place].insert(make()).clone()
    }
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { places: Vec::new(), hasher: RandomState::default() }
    }
}

const PLACES: usize = 128;
/// Longest name that is kept.
const MAX_LEN: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_names_are_shared() {
        let mut recent = Recent::<ByteString>::default();
        let first = recent.get(b"room");
        assert_eq!(recent.get(b"room").as_bytes().as_ptr(), first.as_bytes().as_ptr());
        assert_eq!(recent.get(b"a\xff"), "a\u{fffd}");
        assert_eq!(recent.get(b"a\xff"), "a\u{fffd}");
        for number in 0..4 * PLACES {
            let name = number.to_string();
            assert_eq!(recent.get(name.as_bytes()), name);
        }
        let long = "x".repeat(MAX_LEN + 1);
        assert_ne!(
            recent.get(long.as_bytes()).as_bytes().as_ptr(),
            recent.get(long.as_bytes()).as_bytes().as_ptr()
        );
        assert_eq!(recent.get(b""), "");
    }
}
