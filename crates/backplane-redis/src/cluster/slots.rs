//! Slots of channels, and the answers of servers that name the owner of a slot.

use crate::config::Address;
use crate::connection::Reply;

/// Number of slots of a cluster.
pub(super) const SLOTS: u16 = 16_384;

/// Returns the slot of a channel: the CRC-16 (XMODEM) of its name, or of the part in the first braces if it has one.
pub(super) fn slot_of(name: &[u8]) -> u16 {
    let tag = || {
        let start = name.iter().position(|byte| *byte == b'{')? + 1;
        let len = name[start..].iter().position(|byte| *byte == b'}')?;
        (len > 0).then(|| &name[start..start + len])
    };
    let crc = tag().unwrap_or(name).iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % SLOTS
}

/// Returns the host of an address, for replies that name none.
pub(super) fn host_of(address: &Address) -> String {
    match address {
        Address::Tcp(host, _) => host.clone(),
        Address::Unix(_) => String::new(),
    }
}

/// Slots from the first to the last, with their master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) master: Address,
}

/// Reads the reply to `CLUSTER SLOTS`; `asked` is the host of the server, which need not name itself.
pub(super) fn ranges_of(reply: &Reply<'_>, asked: &str) -> Option<Vec<Range>> {
    let Reply::Array(ranges) = reply else { return None };
    ranges.iter().map(|range| range_of(range, asked)).collect()
}

fn range_of(reply: &Reply<'_>, asked: &str) -> Option<Range> {
    let Reply::Array(parts) = reply else { return None };
    let [Reply::Integer(first), Reply::Integer(last), Reply::Array(master), ..] = &parts[..] else {
        return None;
    };
    let [Reply::Bulk(host), Reply::Integer(port), ..] = &master[..] else { return None };
    let host = match host {
        Some(host) if !host.is_empty() => std::str::from_utf8(host).ok()?,
        _ => asked,
    };
    let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
    let master = Address::Tcp(host.to_owned(), u16::try_from(*port).ok()?);
    (first <= last && last < SLOTS).then_some(Range { first, last, master })
}

/// Error reply to a command for one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rejection {
    /// Another server owns the slot.
    Moved(u16, Address),
    /// The command may succeed later.
    ///
    /// `ASK` is one of these: Redis sends it for keys only, since a channel has no key that could have moved.
    Later,
    /// The command will not succeed, as by access rules.
    Refused,
}

impl Rejection {
    /// Reads an error reply; `asked` is the host of the server, which need not name itself.
    pub(super) fn read(text: &[u8], asked: &str) -> Self {
        let text = String::from_utf8_lossy(text);
        let mut words = text.split(' ');
        match words.next() {
            Some("MOVED") => match redirection(words, asked) {
                Some((slot, address)) => Self::Moved(slot, address),
                None => Self::Later,
            },
            Some("ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "READONLY" | "BUSY") => {
                Self::Later
            }
            _ => Self::Refused,
        }
    }
}

fn redirection<'a>(mut words: impl Iterator<Item = &'a str>, asked: &str) -> Option<(u16, Address)> {
    let slot = words.next()?.parse().ok().filter(|slot| *slot < SLOTS)?;
    let (host, port) = words.next()?.rsplit_once(':')?;
    let host = if host.is_empty() { asked } else { host };
    Some((slot, Address::Tcp(host.to_owned(), port.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // From the cluster specification, and `CLUSTER KEYSLOT` of Redis 7.0.
        for (name, slot) in [
            ("123456789", 0x31c3),
            ("", 0),
            ("foo", 12_182),
            ("{user1000}.following", slot_of(b"user1000")),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", slot_of(b"{bar")),
            ("foo{bar}{zap}", slot_of(b"bar")),
            ("foo{bar", slot_of(b"foo{bar")),
        ] {
            assert_eq!(slot_of(name.as_bytes()), slot % SLOTS, "{name}");
        }
    }

    #[test]
    fn ranges_name_masters() {
        let master =
            |host| Reply::Array(vec![Reply::Bulk(host), Reply::Integer(7001), Reply::Bulk(Some(b"id"))]);
        let range = |last, host| Reply::Array(vec![Reply::Integer(5), Reply::Integer(last), master(host)]);
        let read = |last, host| ranges_of(&Reply::Array(vec![range(last, host)]), "asked");
        let expected =
            |host: &str| Some(vec![Range { first: 5, last: 9, master: Address::Tcp(host.to_owned(), 7001) }]);
        assert_eq!(read(9, Some(b"h")), expected("h"));
        assert_eq!(read(9, Some(b"")), expected("asked"));
        assert_eq!(read(9, None), expected("asked"));
        assert_eq!(read(4, None), None);
        assert_eq!(read(16_384, None), None);
        assert_eq!(ranges_of(&Reply::Integer(1), "asked"), None);
    }

    #[test]
    fn rejections_are_told_apart() {
        let address = |host: &str| Address::Tcp(host.to_owned(), 7002);
        for (text, rejection) in [
            ("MOVED 3999 h:7002", Rejection::Moved(3999, address("h"))),
            ("MOVED 3999 ::1:7002", Rejection::Moved(3999, address("::1"))),
            ("MOVED 3999 :7002", Rejection::Moved(3999, address("asked"))),
            ("MOVED 16384 h:7002", Rejection::Later),
            ("ASK 3999 h:7002", Rejection::Later),
            ("CLUSTERDOWN Hash slot not served", Rejection::Later),
            ("TRYAGAIN x", Rejection::Later),
            ("NOPERM x", Rejection::Refused),
        ] {
            assert_eq!(Rejection::read(text.as_bytes(), "asked"), rejection, "{text}");
        }
    }
}
