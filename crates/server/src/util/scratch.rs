//! Buffers that a thread reuses.
//!
//! A value is removed from its place while in use, so nested uses find none and a panic drops it. Places for a type
//! private to one file are in that file; each documents its saving and bound.

use std::cell::Cell;

use roomcast_core::Message;

/// Largest number of messages whose buffer is retained
const KEPT_MESSAGES: usize = 1024;

thread_local! {
    // Messages of one read, at most `KEPT_MESSAGES`. Sessions outnumber threads by thousands, and most are idle: a
    // buffer per driver would cost 24 bytes, hence the next task size class (see the assertion at `Driver`), and its
    // memory. A fresh buffer per read costs 1.6 % of an echo. Not a parameter: the runtime polls a driver with a waker.
    static MESSAGES: Cell<Vec<Message>> = const { Cell::new(Vec::new()) };
}

/// Calls `read` with an empty buffer for the messages of one read.
#[inline]
pub(crate) fn with_messages<R>(read: impl FnOnce(&mut Vec<Message>) -> R) -> R {
    let mut messages = MESSAGES.take();
    let result = read(&mut messages);
    messages.clear();
    messages.shrink_to(KEPT_MESSAGES);
    MESSAGES.set(messages);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_use_gets_empty_buffer() {
        with_messages(|outer| {
            outer.push("outer".into());
            with_messages(|inner| assert!(inner.is_empty()));
            assert_eq!(outer.len(), 1);
        });
        with_messages(|messages| assert!(messages.is_empty()));
    }

    #[test]
    fn large_buffer_is_not_kept() {
        with_messages(|messages| messages.extend((0..4 * KEPT_MESSAGES).map(|_| Message::from("read"))));
        assert!(with_messages(|messages| messages.capacity()) <= KEPT_MESSAGES);
    }
}
