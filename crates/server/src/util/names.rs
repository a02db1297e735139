//! Event names, shared between consecutive emits

use std::cell::{Cell, RefCell};

use bytestring::ByteString;
use roomcast_core::{Args, Event, Namespace};

use super::scratch::put_back;

/// Returns an event name, sharing memory if this thread used the name recently.
///
/// Applications use few names, each thousands of times per second.
pub(crate) fn shared(name: &str) -> ByteString {
    RECENT.with_borrow_mut(|recent| recent.shared(name))
}

/// Returns the event that this thread emitted last, with other arguments, if it had this name and this namespace.
///
/// Return it with [`keep_last`]. Repeated emits of one name then move one pointer and count no references for name and
/// namespace: 2 % of the instructions of an echo.
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

/// Keeps an event without options for the next emit of its name, except its arguments.
#[inline]
pub(crate) fn keep_last(mut event: Box<Event>) {
    if event.name.len() <= LONGEST {
        // An empty list from a client may still have attachments.
        if !event.args.is_empty() || !event.args.attachments().is_empty() {
            event.args = Args::empty();
        }
        put_back(&LAST, Some(event));
    }
}

// Thread-local rather than a parameter, since emits come from application code.
thread_local! {
    // Last emitted event, reused for the next one of its name: saves 2 % of the instructions of an echo. A single
    // event without arguments, its name at most `LONGEST` bytes.
    static LAST: Cell<Option<Box<Event>>> = const { Cell::new(None) };
    // Recently emitted names: saves allocating and copying a name per emit. At most `KEPT` names of `LONGEST` bytes.
    static RECENT: RefCell<Recent> = const { RefCell::new(Recent { names: [const { ByteString::new() }; KEPT], next: 0 }) };
}

struct Recent {
    names: [ByteString; KEPT],
    /// Slot replaced next
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

/// Number of names kept
const KEPT: usize = 8;
/// Maximum length of a kept name, in bytes
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reuses_name_in_use() {
        let first = shared("chat");
        for _ in 0..3 {
            assert_eq!(shared("chat").as_ptr(), first.as_ptr());
        }
        assert_eq!(shared("chat message"), "chat message");
        assert_eq!(shared(""), "");
    }

    #[test]
    fn lends_name_once_within_namespace() {
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
    fn cached_event_drops_its_arguments() {
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
    fn unbounded_names_retain_no_memory() {
        let mut recent = Recent { names: [const { ByteString::new() }; KEPT], next: 0 };
        for number in 0..100 {
            let name = number.to_string();
            assert_eq!(recent.shared(&name), name);
            assert_eq!(recent.shared(&name.repeat(100)), name.repeat(100));
        }
        assert!(recent.names.iter().all(|name| !name.is_empty() && name.len() <= LONGEST));
    }
}
