//! Kernel memory of the whole machine, and its TCP sockets.
//!
//! The kernel does not attribute the memory of sockets to processes. On an otherwise idle machine, the difference of two
//! readings is that of the connections opened in between.

use std::fs;

use crate::KernelSource;

/// Reading of the kernel's memory use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct KernelMemory {
    bytes: u64,
    pub(crate) source: KernelSource,
    /// Number of TCP sockets, if known.
    sockets: Option<u64>,
}

impl KernelMemory {
    /// Reads `/proc/slabinfo`, or `/proc/meminfo` without permission for it; returns `None` if neither is readable.
    pub(crate) fn read() -> Option<Self> {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let objects = slab_objects(&text("/proc/slabinfo")).map(|bytes| (bytes, KernelSource::Slabinfo));
        let (bytes, source) =
            objects.or_else(|| Some((slab_pages(&text("/proc/meminfo"))?, KernelSource::Meminfo)))?;
        let sockets = [("/proc/net/sockstat", "TCP: inuse "), ("/proc/net/sockstat6", "TCP6: inuse ")]
            .map(|(path, label)| number_after(&text(path), label));
        Some(Self {
            bytes,
            source,
            sockets: sockets[0].map(|sockets_v4| sockets_v4 + sockets[1].unwrap_or(0)),
        })
    }

    /// Returns the growth since an earlier reading, if both have the same source.
    pub(crate) fn bytes_since(self, earlier: Self) -> Option<f64> {
        (self.source == earlier.source).then_some(self.bytes as f64 - earlier.bytes as f64)
    }

    /// Returns the number of TCP sockets added since an earlier reading.
    pub(crate) fn sockets_since(self, earlier: Self) -> Option<f64> {
        Some(self.sockets? as f64 - earlier.sockets? as f64)
    }
}

/// Sums active objects times object size over all caches.
fn slab_objects(slabinfo: &str) -> Option<u64> {
    let caches = slabinfo.lines().filter(|line| !line.starts_with("slabinfo") && !line.starts_with('#'));
    let sizes = caches.map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let active: u64 = fields.next()?.parse().ok()?;
        let size: u64 = fields.nth(1)?.parse().ok()?;
        Some(active * size)
    });
    sizes.sum::<Option<u64>>().filter(|&bytes| bytes > 0)
}

fn slab_pages(meminfo: &str) -> Option<u64> {
    Some(number_after(meminfo, "Slab:")? << 10)
}

/// Returns the number after a label at the start of a line.
fn number_after(text: &str, label: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn sums_active_slab_objects() {
        let text = "slabinfo - version: 2.1\n\
                    # name <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>\n\
                    TCP 20 26 2432 13 8 : tunables 0 0 0 : slabdata 2 2 0\n\
                    filp 100 128 256 16 1 : tunables 0 0 0 : slabdata 8 8 0\n";
        assert_eq!(slab_objects(text), Some(20 * 2432 + 100 * 256));
        assert_eq!(slab_objects(""), None);
        assert_eq!(slab_objects("TCP many few 1\n"), None);
        assert_eq!(slab_pages("MemFree: 1 kB\nSlab:   343800 kB\n"), Some(343_800 << 10));
    }

    #[test]
    fn counts_added_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let before = KernelMemory::read().unwrap();
        let address = listener.local_addr().unwrap();
        let connect = |_| (TcpStream::connect(address).unwrap(), listener.accept().unwrap());
        let connections: Vec<_> = (0..200).map(connect).collect();
        let after = KernelMemory::read().unwrap();
        // Tests that run at the same time open and close sockets too.
        let added = after.sockets_since(before).unwrap();
        assert!(added > 200.0, "{added} sockets for {} connections", connections.len());
        assert!(after.bytes_since(before).unwrap().is_finite());
    }
}
