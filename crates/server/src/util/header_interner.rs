//! Interning of request headers common to many clients

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Interner of headers that many clients send alike; each text is stored once while in use.
///
/// Visitors of one site with one browser send mostly the same headers. A unique text costs its own bytes and one entry,
/// both released with its client.
#[derive(Default)]
pub(crate) struct HeaderInterner {
    shards: [Mutex<Shard>; SHARDS],
    /// Seeded, so that clients cannot choose colliding headers
    hasher: RandomState,
    /// Total of all texts
    bytes: AtomicUsize,
}

/// Keyed by hash of the text; on a collision only the first is shared
type Shard = HashMap<u64, Weak<Head>>;

/// Headers shared by clients.
pub(crate) struct Head {
    text: Box<[u8]>,
    hash: u64,
    header_names: Arc<HeaderInterner>,
}

impl HeaderInterner {
    /// Returns the shared head with this text.
    pub(crate) fn share(self: &Arc<Self>, text: &[u8]) -> Arc<Head> {
        let hash = self.hasher.hash_one(text);
        let make = || {
            self.bytes.fetch_add(text.len(), Ordering::Relaxed);
            Arc::new(Head { text: text.into(), hash, header_names: self.clone() })
        };
        let known = {
            let mut shard = self.shard(hash);
            match shard.get(&hash).and_then(Weak::upgrade) {
                Some(known) => known,
                None => {
                    let new = make();
                    shard.insert(hash, Arc::downgrade(&new));
                    return new;
                }
            }
        };
        // Compared without the lock, since dropping the last reference takes it again.
        if *known.text == *text { known } else { make() }
    }

    /// Returns the total bytes of all texts.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        self.shards[hash as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        (0..SHARDS as u64).map(|shard| self.shard(shard).len()).sum()
    }
}

impl Head {
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        self.header_names.bytes.fetch_sub(self.text.len(), Ordering::Relaxed);
        let mut shard = self.header_names.shard(self.hash);
        // The entry may have been replaced after this head could no longer be upgraded.
        if shard.get(&self.hash).is_some_and(|head| std::ptr::eq(head.as_ptr(), self)) {
            shard.remove(&self.hash);
            let (len, capacity) = (shard.len(), shard.capacity());
            if capacity > KEPT_CAPACITY && len < capacity / 4 {
                shard.shrink_to(len * 2);
            }
        }
    }
}

/// Enough to avoid contention between accepting threads
const SHARDS: usize = 8;
/// Shards up to this capacity are not shrunk
const KEPT_CAPACITY: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interns_text_while_referenced() {
        let header_names = Arc::new(HeaderInterner::default());
        let (first, second) = (header_names.share(b"a: b\n"), header_names.share(b"a: b\n"));
        assert!(Arc::ptr_eq(&first, &second));
        let other = header_names.share(b"a: c\n");
        assert_eq!((other.text(), header_names.len()), (&b"a: c\n"[..], 2));
        drop(first);
        assert_eq!(header_names.len(), 2);
        drop(second);
        assert_eq!(header_names.len(), 1);
        drop(other);
        assert_eq!((header_names.len(), Arc::strong_count(&header_names)), (0, 1));
    }

    #[test]
    fn frees_unreferenced_headers() {
        let header_names = Arc::new(HeaderInterner::default());
        let all: Vec<_> = (0..10_000).map(|n| header_names.share(format!("n: {n}\n").as_bytes())).collect();
        assert_eq!(header_names.len(), 10_000);
        drop(all);
        assert_eq!(header_names.len(), 0);
        let capacity = |shard: u64| header_names.shard(shard).capacity();
        assert!((0..SHARDS as u64).all(|shard| capacity(shard) <= 2 * KEPT_CAPACITY));
    }

    #[test]
    fn distinguishes_texts_with_equal_hash() {
        let header_names = Arc::new(HeaderInterner::default());
        let hash = header_names.hasher.hash_one(&b"ours"[..]);
        let theirs = Arc::new(Head { text: (*b"theirs").into(), hash, header_names: header_names.clone() });
        header_names.shard(hash).insert(hash, Arc::downgrade(&theirs));
        let ours = header_names.share(b"ours");
        assert_eq!((ours.text(), theirs.text()), (&b"ours"[..], &b"theirs"[..]));
        // A head that is not in the table must not remove another entry.
        drop(ours);
        assert_eq!(header_names.len(), 1);
        drop(theirs);
        assert_eq!(header_names.len(), 0);
    }

    #[test]
    fn interns_across_concurrent_threads() {
        let header_names = Arc::new(HeaderInterner::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in (0..5_000u16).map(|n| (n % 3) as u8) {
                        let text = [b'a' + n];
                        assert_eq!(header_names.share(&text).text(), text);
                    }
                });
            }
        });
        assert_eq!(header_names.len(), 0);
    }
}
