//! Process-wide ledger of delivery memory: `held` and `Charge`
//!
//! Counted is what waits for clients: the bodies of frames and each of their renderings once, however many outboxes
//! share them, and what queues and sinks hold beside. Not counted are what applications hold, what clients send, and
//! pools that are bounded for each thread.
//!
//! The ledger lies on the path of every message, so a thread adds up what it charges and releases by itself and moves
//! the sum into the counter that all threads share only when it passes [`SLACK`] either way, and when it ends.

use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use bytes::Bytes;

/// Bytes by which the sum of one thread may differ from what [`held`] sees of it: 64 KiB
pub const SLACK: usize = 64 * 1024;

/// Returns the bytes of delivery memory that the process holds.
///
/// What the calling thread did is counted exactly; each other thread may have charged or released up to [`SLACK`]
/// bytes that are not in it yet. One relaxed load.
pub fn held() -> usize {
    let own = match PENDING.get() {
        UNREGISTERED | ENDED => 0,
        pending => pending,
    };
    usize::try_from(HELD.0.load(Ordering::Relaxed).wrapping_add(own)).unwrap_or(0)
}

/// Sets the bytes that the process should hold at most; of several calls the least counts. Default: no limit
///
/// Nothing is refused by it but what asks [`can_spare`]: servers keep to their budgets themselves.
pub fn limit_to(bytes: usize) {
    LIMIT.fetch_min(bytes, Ordering::Relaxed);
}

/// Whether half of the limit is left when `bytes` more are charged.
///
/// For what a client can do without, such as a compression context: it must not take the memory that messages need.
pub fn can_spare(bytes: usize) -> bool {
    held().saturating_add(bytes) <= LIMIT.load(Ordering::Relaxed) / 2
}

/// Bytes of delivery memory that are charged as long as this value lives.
///
/// May be dropped on another thread than it was made on.
#[derive(Debug, Default)]
#[must_use = "dropping it releases the bytes at once"]
pub struct Charge(usize);

impl Charge {
    /// Charges `bytes`, and releases them when the value is dropped.
    pub fn new(bytes: usize) -> Self {
        let mut charge = Self::default();
        charge.set(bytes);
        charge
    }

    /// Charges or releases the difference, so that `bytes` are charged from now on.
    pub fn set(&mut self, bytes: usize) {
        add(signed(bytes) - signed(self.0));
        self.0 = bytes;
    }

    /// Returns the bytes that are charged.
    pub fn bytes(&self) -> usize {
        self.0
    }

    /// Returns the same bytes, with the charge released when the last clone or slice of them is dropped.
    ///
    /// For bytes that go to code which does not know of the ledger, such as an HTTP library. Costs one allocation.
    pub fn attach(self, bytes: Bytes) -> Bytes {
        owned(bytes, self)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        add(-signed(self.0));
    }
}

/// Charges `bytes`; whoever calls it stores how many, and releases them.
#[inline]
pub(crate) fn charge(bytes: usize) {
    add(signed(bytes));
}

/// Releases `bytes` that were charged before, on any thread.
#[inline]
pub(crate) fn release(bytes: usize) {
    add(-signed(bytes));
}

/// Returns the same bytes; `owner` is dropped with the last clone or slice of them.
pub(crate) fn owned<T: Send + 'static>(bytes: Bytes, owner: T) -> Bytes {
    struct Owned<T>(Bytes, T);

    impl<T> AsRef<[u8]> for Owned<T> {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    Bytes::from_owner(Owned(bytes, owner))
}

/// Sizes beyond half of the address space exist in arithmetic only.
fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

#[inline]
fn add(bytes: isize) {
    #[cfg(test)]
    tests::NET.set(tests::NET.get().wrapping_add(bytes));
    let pending = PENDING.get().wrapping_add(bytes);
    if pending.unsigned_abs() <= SLACK {
        // Not `LocalKey::set`, which costs a call and fifteen instructions.
        PENDING.with(|own| own.set(pending));
    } else {
        settle(bytes);
    }
}

/// Adds what does not fit into the sum of the thread, or where it has none
#[cold]
#[inline(never)]
fn settle(bytes: isize) {
    let pending = match PENDING.get() {
        // A thread whose values are being destroyed for the first time here has no place for a guard any more.
        UNREGISTERED if GUARD.try_with(|_| ()).is_ok() => 0,
        UNREGISTERED | ENDED => return move_into_held(bytes),
        pending => pending,
    };
    let sum = pending.wrapping_add(bytes);
    if sum.unsigned_abs() <= SLACK {
        PENDING.set(sum);
    } else {
        PENDING.set(0);
        move_into_held(sum);
    }
}

fn move_into_held(bytes: isize) {
    HELD.0.fetch_add(bytes, Ordering::Relaxed);
}

/// Moves the sum of a thread that ends
struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        // What is charged from here on, by the destructors of other values, goes past the thread's own sum.
        let pending = PENDING.replace(ENDED);
        if pending != UNREGISTERED {
            move_into_held(pending);
        }
    }
}

/// The counter of all threads, on cache lines of its own: it is read for each emit and seldom written
#[repr(align(128))]
struct Shared(AtomicIsize);

/// Below zero for a moment if a thread releases what another one has charged and not moved yet
static HELD: Shared = Shared(AtomicIsize::new(0));

static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

thread_local! {
    // Sum of this thread that is not in `HELD` yet. It saves an atomic write to a line that all threads share, several
    // times per message. Charges are made and released in constructors and `Drop`, which take no parameter, and on any
    // thread. Bounded: one number, at most `SLACK` off.
    //
    // Without a destructor of its own, so that access costs no look at whether it was run. Instead the values beside
    // the range of sums stand for "not yet" and "no more", and lead to the slow way like any other sum out of range.
    static PENDING: Cell<isize> = const { Cell::new(UNREGISTERED) };
    /// Moves that sum into `HELD` when the thread ends
    static GUARD: Guard = const { Guard };
}

/// The thread has charged nothing yet, so its guard has to be registered
const UNREGISTERED: isize = isize::MIN / 2;
/// The thread's values are being destroyed
const ENDED: isize = isize::MAX / 2;

#[cfg(test)]
pub(crate) mod tests {
    use std::thread;

    use super::*;

    thread_local! {
        /// All that a test's own thread charged less what it released, whatever other tests do
        pub(crate) static NET: Cell<isize> = const { Cell::new(0) };
    }

    #[test]
    fn charge_follows_its_size() {
        let before = NET.get();
        let mut charge = Charge::new(100);
        assert_eq!((NET.get() - before, charge.bytes()), (100, 100));
        charge.set(7);
        assert_eq!((NET.get() - before, charge.bytes()), (7, 7));
        charge.set(3 * SLACK);
        assert_eq!(NET.get() - before, 3 * SLACK as isize);
        drop(charge);
        assert_eq!((NET.get() - before, Charge::default().bytes()), (0, 0));
    }

    #[test]
    fn charge_outlives_attached_slices() {
        let before = NET.get();
        let bytes = Charge::new(5).attach(Bytes::from_static(b"hello"));
        let slice = bytes.slice(1..3);
        drop(bytes);
        assert_eq!((&slice[..], NET.get() - before), (&b"el"[..], 5));
        drop(slice);
        assert_eq!(NET.get() - before, 0);
    }

    #[test]
    fn own_sum_stays_within_slack() {
        let run = || {
            assert_eq!(PENDING.get(), UNREGISTERED);
            for step in 1..2000_isize {
                add(if step % 3 == 0 { -step * 100 } else { step * 70 });
                assert!(PENDING.get().unsigned_abs() <= SLACK, "{}", PENDING.get());
            }
            add(-NET.get());
        };
        thread::scope(|scope| scope.spawn(run).join().unwrap());
    }
}
