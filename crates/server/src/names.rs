//! The names of events, shared between those that are emitted one after the other

use std::cell::{Cell, RefCell};

use bytestring::ByteString;
use roomcast_core::{Event, Namespace};

/// A name to put into an event; the same memory as last time if this thread used it lately
///
/// An application has a handful of names and uses each thousands of times a second.
pub(crate) fn shared(name: &str) -> ByteString {
    RECENT.with_borrow_mut(|recent| recent.shared(name))
}

/// What the event that this thread emitted last was called, if it was called this, and where that was
///
/// To be given back by [`keep_last`]. Somebody who emits the same again and again counts no references for it.
pub(crate) fn take_last(namespace: &Namespace, name: &str) -> Option<(Namespace, ByteString)> {
    LAST.take().filter(|(place, known)| std::ptr::eq(place.as_str(), namespace.as_str()) && **known == *name)
}

/// Keeps the name of an event, and of its namespace, for the next one
pub(crate) fn keep_last(event: Event) {
    if event.name.len() <= LONGEST {
        LAST.set(Some((event.namespace, event.name)));
    }
}

thread_local! {
    static LAST: Cell<Option<(Namespace, ByteString)>> = const { Cell::new(None) };
    static RECENT: RefCell<Recent> = const { RefCell::new(Recent { names: [const { ByteString::new() }; KEPT], next: 0 }) };
}

struct Recent {
    names: [ByteString; KEPT],
    /// Whose place is taken next
    next: usize,
}

impl Recent {
    fn shared(&mut self, name: &str) -> ByteString {
        if let Some(known) = self.names.iter().find(|known| **known == *name) {
            return known.clone();
        }
        let made = ByteString::from(name);
        if name.len() <= LONGEST {
            self.names[self.next] = made.clone();
            self.next = (self.next + 1) % KEPT;
        }
        made
    }
}

/// Names that are kept
const KEPT: usize = 8;
/// Bytes of a name that is kept at most
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_use_is_not_copied_again() {
        let first = shared("chat");
        for _ in 0..3 {
            assert_eq!(shared("chat").as_ptr(), first.as_ptr());
        }
        assert_eq!(shared("chat message"), "chat message");
        assert_eq!(shared(""), "");
    }

    #[test]
    fn the_event_before_lends_its_name_once_and_to_its_own_namespace() {
        let here = Namespace::new("/here");
        let keep = |name: &str| keep_last(Event::new(here.clone(), name, roomcast_core::Args::empty()));
        keep("chat");
        let (place, name) = take_last(&here, "chat").expect("it was kept");
        assert_eq!((place.as_str(), &*name), ("/here", "chat"));
        assert_eq!(take_last(&here, "chat"), None);
        keep("chat");
        assert_eq!(take_last(&Namespace::new("/here"), "chat"), None);
        keep("chat");
        assert_eq!(take_last(&here, "chats"), None);
        keep(&"a".repeat(LONGEST + 1));
        assert_eq!(take_last(&here, &"a".repeat(LONGEST + 1)), None);
    }

    #[test]
    fn names_without_end_keep_no_memory() {
        let mut recent = Recent { names: [const { ByteString::new() }; KEPT], next: 0 };
        for number in 0..100 {
            let name = number.to_string();
            assert_eq!(recent.shared(&name), name);
            assert_eq!(recent.shared(&name.repeat(100)), name.repeat(100));
        }
        assert!(recent.names.iter().all(|name| !name.is_empty() && name.len() <= LONGEST));
    }
}
