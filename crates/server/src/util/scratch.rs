//! Buffers that a thread reuses.
//!
//! A value is removed from its place while in use, so nested uses find none and a panic drops it. Places for a type
//! private to one file are in that file; each documents its saving and bound.

use std::cell::Cell;
use std::thread::LocalKey;

use roomcast_core::Message;

/// Largest number of messages whose buffer is retained
const KEPT_MESSAGES: usize = 1024;

thread_local! {
    // Messages of one read, at most `KEPT_MESSAGES`. Sessions outnumber threads by thousands, and most are idle: a
    // buffer per driver would cost 24 bytes, hence the next task size class (see the assertion at `Driver`), and its
    // memory. Not a parameter, since the runtime polls a driver with a waker alone.
    static MESSAGES: Cell<Vec<Message>> = const { Cell::new(Vec::new()) };
}

/// Calls `read` with an empty buffer for the messages of one read.
#[inline]
pub(crate) fn with_messages<R>(read: impl FnOnce(&mut Vec<Message>) -> R) -> R {
    let mut messages = MESSAGES.take();
    let result = read(&mut messages);
    messages.clear();
    messages.shrink_to(KEPT_MESSAGES);
    put_back(&MESSAGES, messages);
    result
}

/// Puts back a value taken by [`LocalKey::take`].
///
/// Unlike [`LocalKey::set`], this skips the initialisation path, which costs a call and fifteen instructions.
#[inline]
pub(crate) fn put_back<T>(place: &'static LocalKey<Cell<T>>, value: T) {
    place.with(|place| place.set(value));
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
