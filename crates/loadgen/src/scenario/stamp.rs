use std::sync::LazyLock;

use fastrand::Rng;

/// Message header, as text at the start of the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Whether it is a probe, sent before the load and not verified.
    pub(super) probe: bool,
    /// Group of recipients.
    pub(super) group: u16,
    /// Sender.
    pub(super) stream: u16,
    /// Slot among the messages in flight.
    pub(super) slot: u16,
    /// Sequence number per sender and group.
    pub(super) sequence: u32,
    /// Send time on the load generator's clock, in nanoseconds.
    pub(super) sent_at: u64,
}

impl Stamp {
    /// Appends it, padded to `length` bytes.
    pub(super) fn write(&self, out: &mut Vec<u8>, length: usize, filler: Filler) {
        let end = out.len() + length;
        out.push(if self.probe { b'p' } else { b'm' });
        append_hex(out, u64::from(self.group), 4);
        append_hex(out, u64::from(self.stream), 4);
        append_hex(out, u64::from(self.slot), 4);
        append_hex(out, u64::from(self.sequence), 7);
        append_hex(out, self.sent_at, 12);
        match filler {
            Filler::Dots => out.resize(end, PADDING),
            Filler::Records => out.extend(RECORDS.iter().cycle().take(length - LENGTH)),
        }
    }

    /// Parses a stamp; returns `None` if the payload does not begin with one.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let stamp: &[u8; LENGTH] = payload.first_chunk()?;
        let probe = match stamp[0] {
            b'p' => true,
            b'm' => false,
            _ => return None,
        };
        let number = |from: usize, digits: usize| hex(&stamp[from..from + digits]);
        Some(Self {
            probe,
            group: number(1, 4)? as u16,
            stream: number(5, 4)? as u16,
            slot: number(9, 4)? as u16,
            sequence: number(13, 7)? as u32,
            sent_at: number(20, 12)?,
        })
    }
}

/// Returns whether a payload has the expected length and filler.
pub(super) fn is_intact(payload: &[u8], length: usize, filler: Filler) -> bool {
    payload.len() == length
        && match filler {
            Filler::Dots => payload[LENGTH..].iter().fold(0, |odd, byte| odd | (byte ^ PADDING)) == 0,
            Filler::Records => payload[LENGTH..].iter().eq(RECORDS.iter().cycle().take(length - LENGTH)),
        }
}

/// Filler of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filler {
    /// Dots, cheap to write and to check.
    Dots,
    /// Text that compresses like real records and needs no escaping in JSON.
    Records,
}

static RECORDS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Rng::with_seed(1);
    let record = |number: usize| {
        let (id, cents, at) = (random.usize(..1_000_000), random.usize(..100_000), random.usize(..86_400));
        let name = ["alice", "bob", "carol", "dave"][random.usize(..4)];
        let (price, number) = (cents as f64 / 100.0, number + 1);
        format!("{{number:{number},id:{id},user:{name},price:{price},at:{at}}},")
    };
    (0..100).map(record).collect::<String>().into_bytes()
});

/// Request of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Broadcast,
    Echo,
    Join(u16),
    Room(u16),
}

fn append_hex(out: &mut Vec<u8>, value: u64, digits: u32) {
    out.extend((0..digits).rev().map(|digit| HEX[(value >> (4 * digit)) as usize & 0xf]));
}

fn hex(digits: &[u8]) -> Option<u64> {
    let mut bad = 0;
    let value = digits.iter().fold(0, |value, &digit| {
        let nibble = NIBBLES[usize::from(digit)];
        bad |= nibble;
        value << 4 | u64::from(nibble & 0xf)
    });
    (bad & NOT_HEX == 0).then_some(value)
}

/// Length of a stamp in bytes.
pub(super) const LENGTH: usize = 32;

const PADDING: u8 = b'.';
const HEX: &[u8; 16] = b"0123456789abcdef";
const NOT_HEX: u8 = 0x80;
const NIBBLES: [u8; 256] = {
    let mut nibbles = [NOT_HEX; 256];
    let mut value = 0;
    while value < 16 {
        nibbles[HEX[value] as usize] = value as u8;
        value += 1;
    }
    nibbles
};

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        probe: false,
        group: 399,
        stream: 7,
        slot: 1023,
        sequence: 0xab_cdef,
        sent_at: 0x1234_5678_9abc,
    };

    #[test]
    fn round_trips_stamps() {
        for length in [32, 33, 64, 1024] {
            for probe in [false, true] {
                let stamp = Stamp { probe, ..STAMP };
                let mut payload = Vec::new();
                stamp.write(&mut payload, length, Filler::Dots);
                assert_eq!(Stamp::read(&payload), Some(stamp));
                assert!(is_intact(&payload, length, Filler::Dots));
            }
        }
    }

    #[test]
    fn detects_changed_bytes_and_lengths() {
        for filler in [Filler::Dots, Filler::Records] {
            let mut payload = Vec::new();
            STAMP.write(&mut payload, 64, filler);
            for at in 0..payload.len() {
                let mut changed = payload.clone();
                changed[at] = b'~';
                assert!(Stamp::read(&changed).is_none() || !is_intact(&changed, 64, filler), "byte {at}");
            }
            assert!(is_intact(&payload, 64, filler) && !is_intact(&payload, 65, filler));
            assert!(!is_intact(&payload[..63], 64, filler));
            assert_eq!(Stamp::read(&payload[..31]), None);
        }
        assert!(!RECORDS.iter().any(|byte| [b'"', b'\\'].contains(byte)));
    }
}
