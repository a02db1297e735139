//! Hint to the processor that memory is needed soon.

use prefetch_index::prefetch_index;

/// Tells the processor to fetch the memory of `value` into its caches; changes nothing.
///
/// In a loop over many values that are not in the caches, fetching each a few iterations early makes the cache misses
/// overlap. Unlike a load, the hint does not delay the instructions behind it. Does nothing on architectures other than
/// x86 and AArch64.
///
/// # Examples
///
/// ```
/// let values = vec![Box::new([1_u8; 100]); 1000];
/// let mut ahead = values.iter().skip(16);
/// let mut sum = 0;
/// for value in &values {
///     if let Some(later) = ahead.next() {
///         roomcast_core::prefetch(&**later);
///     }
///     sum += usize::from(value[99]);
/// }
/// assert_eq!(sum, 1000);
/// ```
#[inline]
pub fn prefetch<T: ?Sized>(value: &T) {
    let start = std::ptr::from_ref(value).addr();
    let last = size_of_val(value).saturating_sub(1);
    (0..last).step_by(LINE).for_each(|offset| prefetch_line(start + offset));
    // A value that is not aligned to lines ends in one more.
    prefetch_line(start + last);
}

/// Tells the processor to fetch the line that contains an address.
#[inline]
pub(crate) fn prefetch_line(address: usize) {
    const NOWHERE: &[u8] = &[];
    // A hint may name any address. The crate takes it as an index, which need not be in bounds.
    prefetch_index(NOWHERE, address.wrapping_sub(NOWHERE.as_ptr().addr()));
}

/// Bytes of a cache line. On a processor with longer lines, some hints are repeated.
pub(crate) const LINE: usize = 64;
