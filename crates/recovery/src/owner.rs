//! Who causes what is kept

use std::cell::Cell;
use std::marker::PhantomData;
use std::net::IpAddr;

/// Client, or address of clients, that causes events and members to be kept
///
/// What is kept is bounded, so one who fills it has others begin anew. No owner holds more than a
/// [share](crate::RecoveryConfig#shares) of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a client has an address or none")]
pub enum Owner {
    /// All clients of an address, or of a network that counts as one.
    Address(IpAddr),
    /// One client of which no address is known, by a number of its own.
    Client(u64),
}

thread_local! {
    /// Owner on whose behalf this thread emits, see [`Acting`].
    ///
    /// Emits come from handlers and reach the sequencer through `Router::broadcast`, neither of which knows the client
    /// whose message is being handled. It is set for one poll of a handler, so it never follows a future to another
    /// thread. Bounded: one value a thread, reset by the guard.
    static ACTING: Cell<Option<Owner>> = const { Cell::new(None) };
}

/// Until this is dropped, what the thread emits is on behalf of an owner
///
/// For a server around the handlers of a client: each poll of a handler is on behalf of its client. What is emitted
/// without it belongs to the application, which has no share.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct Acting {
    before: Option<Owner>,
    /// It belongs to this thread.
    _thread: PhantomData<*const ()>,
}

impl Acting {
    /// Begins to act for this owner on this thread.
    pub fn begin(owner: Owner) -> Self {
        Self { before: ACTING.replace(Some(owner)), _thread: PhantomData }
    }

    /// Returns for whom this thread acts.
    pub(crate) fn owner() -> Option<Owner> {
        ACTING.get()
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        ACTING.set(self.before);
    }
}

/// Part of each limit that one owner may hold: a quarter, and one of what is counted at least
pub(crate) fn share(limit: usize) -> usize {
    (limit / SHARES).max(1)
}

const SHARES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acting_ends_with_its_guard() {
        let [one, two] = [1, 2].map(Owner::Client);
        assert_eq!(Acting::owner(), None);
        let outer = Acting::begin(one);
        {
            let _inner = Acting::begin(two);
            assert_eq!(Acting::owner(), Some(two));
        }
        assert_eq!(Acting::owner(), Some(one));
        drop(outer);
        assert_eq!(Acting::owner(), None);
    }
}
