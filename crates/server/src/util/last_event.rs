//! Memory of an emitted event, reused by the next emit of the same name

use std::cell::Cell;

use roomcast_core::{Args, Event, Namespace};

/// Returns the event that this thread emitted last, with other arguments, if it had this name and this namespace.
///
/// Return it with [`keep_last`]. Repeated emits of one name then move one pointer, and count no references for name and
/// namespace.
#[inline]
pub(crate) fn take_last(namespace: &Namespace, name: &str, args: Args) -> Result<Box<Event>, Args> {
    match LAST.take() {
        Some(mut event) if event.namespace == *namespace && *event.name == *name => {
            event.args = args;
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
        LAST.set(Some(event));
    }
}

// Thread-local rather than a parameter, since emits come from application code.
thread_local! {
    // Without it an echo takes one allocation and 16 % more instructions (plain), 9 % (Socket.IO). Bound: one event
    // without arguments, its name at most `LONGEST` bytes.
    static LAST: Cell<Option<Box<Event>>> = const { Cell::new(None) };
}

/// Maximum length of a kept name, in bytes
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use bytestring::ByteString;

    use super::*;

    #[test]
    fn lends_name_once_within_namespace() {
        let here = Namespace::new("/here");
        let keep = |name: &str| keep_last(Box::new(Event::new(here.clone(), name, Args::empty())));
        let take = |namespace: &Namespace, name: &str| take_last(namespace, name, Args::empty());
        keep("chat");
        let event = take(&here, "chat").expect("a retained event");
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
        let event = take_last(&here, "chat", Args::empty()).expect("a retained event");
        assert!(event.ack.is_none() && event.offset.is_none() && event.key.is_none() && event.compress);
    }
}
