//! Process-wide ledger of delivery memory: `in_use` and `Charge`.
//!
//! The ledger counts data queued for clients: each frame body and each of its encodings once, for any number of
//! outboxes, plus the other memory of queues and sinks. It does not count application memory, incoming data and the
//! bounded pools of each thread.
//!
//! The ledger is on the hot path of every message. So each thread keeps its own sum of charges and releases. It adds
//! the sum to the shared counter only when the sum exceeds [`SLACK`] in either direction, and when the thread ends.

use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use bytes::Bytes;

/// Maximum bytes by which the sum of a thread may differ from its share in [`in_use`]: 64 KiB.
pub const SLACK: usize = 64 * 1024;

/// Returns the bytes of delivery memory that the process holds.
///
/// The calling thread is counted exactly. Each other thread may have charged or released up to [`SLACK`] bytes that are
/// not included yet. Costs one relaxed load.
pub fn in_use() -> usize {
    let own = match PENDING.get() {
        UNREGISTERED | ENDED => 0,
        pending => pending,
    };
    usize::try_from(TOTAL.0.load(Ordering::Relaxed).wrapping_add(own)).unwrap_or(0)
}

/// Sets the maximum bytes that the process should hold. Default: no limit.
///
/// The lowest value of several calls applies. The limit only affects [`has_headroom`]: servers enforce their budgets
/// themselves.
pub fn limit_to(bytes: usize) {
    LIMIT.fetch_min(bytes, Ordering::Relaxed);
}

/// Returns whether half of the limit stays free when `bytes` more are charged.
///
/// Check it before allocating optional state, such as a compression context, which must not take memory from messages.
pub fn has_headroom(bytes: usize) -> bool {
    in_use().saturating_add(bytes) <= LIMIT.load(Ordering::Relaxed) / 2
}

/// Bytes of delivery memory that stay charged until the value is dropped.
///
/// May be dropped on a different thread.
#[derive(Debug, Default)]
#[must_use = "dropping it releases the bytes at once"]
pub struct Charge(usize);

impl Charge {
    /// Charges `bytes`; dropping the value releases them.
    pub fn new(bytes: usize) -> Self {
        let mut charge = Self::default();
        charge.set(bytes);
        charge
    }

    /// Changes the charge to `bytes`.
    pub fn set(&mut self, bytes: usize) {
        add(signed(bytes) - signed(self.0));
        self.0 = bytes;
    }

    /// Returns the charged bytes.
    pub fn bytes(&self) -> usize {
        self.0
    }

    /// Returns the same bytes; dropping their last clone or slice releases the charge.
    ///
    /// Use it for bytes passed to code that is unaware of the ledger, such as an HTTP library. Costs one allocation.
    pub fn attach(self, bytes: Bytes) -> Bytes {
        owned(bytes, self)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        add(-signed(self.0));
    }
}

/// Charges `bytes`; the caller has to release the same number.
#[inline]
pub(crate) fn charge(bytes: usize) {
    add(signed(bytes));
}

/// Releases `bytes` that were charged before, on any thread.
#[inline]
pub(crate) fn release(bytes: usize) {
    add(-signed(bytes));
}

/// Returns the same bytes; `owner` is dropped with their last clone or slice.
pub(crate) fn owned<T: Send + 'static>(bytes: Bytes, owner: T) -> Bytes {
    struct Owned<T>(Bytes, T);

    impl<T> AsRef<[u8]> for Owned<T> {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    Bytes::from_owner(Owned(bytes, owner))
}

/// Converts a size; saturates, since no allocation exceeds half of the address space.
fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

#[inline]
fn add(bytes: isize) {
    #[cfg(test)]
    tests::NET.set(tests::NET.get().wrapping_add(bytes));
    let pending = PENDING.get().wrapping_add(bytes);
    if pending.unsigned_abs() <= SLACK {
        // `LocalKey::set` would cost a call and fifteen instructions.
        PENDING.with(|own| own.set(pending));
    } else {
        settle(bytes);
    }
}

/// Adds bytes that exceed the slack of the thread's sum, or if the thread has no sum.
#[cold]
#[inline(never)]
fn settle(bytes: isize) {
    let pending = match PENDING.get() {
        // A thread that first charges while its thread-locals are being destroyed can no longer register a guard.
        UNREGISTERED if GUARD.try_with(|_| ()).is_ok() => 0,
        UNREGISTERED | ENDED => return add_to_total(bytes),
        pending => pending,
    };
    let sum = pending.wrapping_add(bytes);
    if sum.unsigned_abs() <= SLACK {
        PENDING.set(sum);
    } else {
        PENDING.set(0);
        add_to_total(sum);
    }
}

fn add_to_total(bytes: isize) {
    TOTAL.0.fetch_add(bytes, Ordering::Relaxed);
}

/// Moves the sum of an ending thread into `TOTAL`.
struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        // Later charges, by destructors of other thread-locals, bypass the thread's sum.
        let pending = PENDING.replace(ENDED);
        if pending != UNREGISTERED {
            add_to_total(pending);
        }
    }
}

/// Counter of all threads, on separate cache lines: it is read at each emit and seldom written.
#[repr(align(128))]
struct Shared(AtomicIsize);

/// Briefly negative if a thread releases bytes that another thread has charged but not moved yet.
static TOTAL: Shared = Shared(AtomicIsize::new(0));

static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

thread_local! {
    // Sum of this thread that is not in `TOTAL` yet. It saves several atomic writes per message to a shared cache line.
    // Thread-local, since charges are made and released in constructors and `Drop`, which take no parameter, on any
    // thread. Bounded: one number, at most `SLACK` off.
    //
    // It has no destructor, so that access needs no check whether the destructor has run. Instead, two values outside
    // the range of sums mean "not registered" and "ended"; they take the slow path like any other sum out of range.
    static PENDING: Cell<isize> = const { Cell::new(UNREGISTERED) };
    /// Moves the sum into `TOTAL` when the thread ends.
    static GUARD: Guard = const { Guard };
}

/// The thread has charged nothing yet, so its guard has to be registered.
const UNREGISTERED: isize = isize::MIN / 2;
/// The thread-locals are being destroyed.
const ENDED: isize = isize::MAX / 2;

#[cfg(test)]
pub(crate) mod tests {
    use std::thread;

    use super::*;

    thread_local! {
        /// Bytes charged minus bytes released by the test's own thread, independent of other tests.
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
