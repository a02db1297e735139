//! The names of events, shared between those that are emitted one after the other

use std::cell::{Cell, RefCell};

use bytestring::ByteString;
use roomcast_core::{Args, Event, Namespace};

use super::scratch::put_back;

/// A name to put into an event; the same memory as last time if this thread used it lately
///
/// An application has a handful of names and uses each thousands of times a second.
pub(crate) fn shared(name: &str) -> ByteString {
    RECENT.with_borrow_mut(|recent| recent.shared(name))
}

/// Returns the event that this thread emitted last, with other arguments, if it had this name and this namespace.
///
/// To be given back by [`keep_last`]. A sender that emits the same name again and again moves one pointer, and counts no
/// references for the name and the namespace: 2 % of the instructions of an echo.
#[inline]
pub(crate) fn take_last(namespace: &Namespace, name: &str, args: Args) -> Result<Box<Event>, Args> {
    match LAST.take() {
        Some(mut event) if event.namespace == *namespace && *event.name == *name => {
            // `keep_last` left none, so there is nothing to drop.
            std::mem::forget(std::mem::replace(&mut event.args, args));
            Ok(event)
        }
        _ => Err(args),
    }
}

/// Keeps an event of this name and without options for the next one, but for its arguments.
#[inline]
pub(crate) fn keep_last(mut event: Box<Event>) {
    if event.name.len() <= LONGEST {
        // An empty list may still have attachments, if it came from a client.
        if !event.args.is_empty() || !event.args.attachments().is_empty() {
            event.args = Args::empty();
        }
        put_back(&LAST, Some(event));
    }
}

// In both: no parameter, since emits come from code of the application, which knows a socket and a name.
thread_local! {
    // Event that was emitted last, for the next one of its name: saves 2 % of the instructions of an echo. One event
    // without arguments, its name at most `LONGEST` bytes.
    static LAST: Cell<Option<Box<Event>>> = const { Cell::new(None) };
    // Names that were emitted lately: saves the allocation and the copy of a name for each emit. At most `KEPT` names of
    // `LONGEST` bytes.
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
        let keep = |name: &str| keep_last(Box::new(Event::new(here.clone(), name, Args::empty())));
        let take = |namespace: &Namespace, name: &str| take_last(namespace, name, Args::empty());
        keep("chat");
        let event = take(&here, "chat").expect("it was kept");
        assert_eq!((event.namespace.as_str(), &*event.name), ("/here", "chat"));
        assert!(take(&here, "chat").is_err());
        keep("chat");
        assert!(take(&Namespace::new("/there"), "chat").is_err());
        keep("chat");
        assert!(take(&here, "chats").is_err());
        keep(&"a".repeat(LONGEST + 1));
        assert!(take(&here, &"a".repeat(LONGEST + 1)).is_err());
    }

    #[test]
    fn kept_event_keeps_nothing_of_what_was_emitted() {
        let here = Namespace::new("/here");
        let body = bytes::Bytes::from(vec![7; 100]);
        for list in [r#"{"_placeholder":true,"num":0}"#, ""] {
            let args = Args::from_validated(ByteString::from_static(list), vec![body.clone()]);
            keep_last(Box::new(Event::new(here.clone(), "chat", args)));
            assert!(body.is_unique(), "{list}");
        }
        let event = take_last(&here, "chat", Args::empty()).expect("it was kept");
        assert!(event.ack.is_none() && event.offset.is_none() && event.key.is_none() && event.compress);
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
