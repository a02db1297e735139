//! Owners of retained events and sessions.

use std::cell::Cell;
use std::marker::PhantomData;
use std::net::IpAddr;

/// Client or address that causes events and sessions to be retained.
///
/// Retention is bounded, so an owner that filled it would evict the entries of others. Each owner is limited to a
/// [share](crate::RecoveryConfig#shares).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a client has an address or none")]
pub enum Owner {
    /// All clients of an address, or of a network that counts as one address.
    Address(IpAddr),
    /// A single client without a known address, identified by a unique number.
    Client(u64),
}

thread_local! {
    /// Owner of the events that this thread emits, see [`Acting`].
    ///
    /// Emits come from handlers and reach the sequencer through `Router::broadcast`, neither of which knows the client
    /// whose message is being handled. It is set for one poll of a handler, so it never follows a future to another
    /// thread. Bounded: one value a thread, reset by the guard.
    static ACTING: Cell<Option<Owner>> = const { Cell::new(None) };
}

/// Guard that attributes the events emitted by this thread to an owner.
///
/// For a server that polls the handlers of a client: each poll acts for that client. Events emitted without the guard
/// belong to the application, which is not limited to a share.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct Acting {
    before: Option<Owner>,
    /// Makes the guard `!Send`.
    _thread: PhantomData<*const ()>,
}

impl Acting {
    /// Starts to attribute this thread's events to `owner`.
    pub fn begin(owner: Owner) -> Self {
        Self { before: ACTING.replace(Some(owner)), _thread: PhantomData }
    }

    /// Returns the current owner of this thread's events.
    pub(crate) fn owner() -> Option<Owner> {
        ACTING.get()
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        ACTING.set(self.before);
    }
}

/// Returns the share of a limit that one owner may hold: a quarter, and at least one.
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
