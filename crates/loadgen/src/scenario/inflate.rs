use flate2::{Decompress, FlushDecompress, Status};

use super::violation::FaultMessage;
use crate::websocket::MAX_PAYLOAD;

/// Decompressor of server messages (RFC 7692).
#[derive(Debug)]
pub(super) struct Inflater {
    stream: Decompress,
    /// Whether each message is compressed on its own (`server_no_context_takeover`).
    forgets: bool,
    text: Vec<u8>,
}

impl Inflater {
    /// Creates it from the server's `Sec-WebSocket-Extensions`.
    pub(super) fn new(chosen: &[u8]) -> Result<Self, FaultMessage> {
        let chosen = String::from_utf8_lossy(chosen);
        let mut parts = chosen.split(';').map(str::trim);
        if parts.next() != Some("permessage-deflate") {
            return Err(format!("an extension that was not offered: {chosen}"));
        }
        let forgets = parts.any(|part| part == "server_no_context_takeover");
        Ok(Self { stream: Decompress::new(false), forgets, text: Vec::new() })
    }

    /// Returns the text of a message, valid until the next call.
    pub(super) fn inflate(&mut self, payload: &[u8]) -> Result<&[u8], FaultMessage> {
        if self.forgets {
            self.stream.reset(false);
        }
        self.text.clear();
        for mut input in [payload, &SYNC] {
            loop {
                self.text.reserve(STEP);
                let (read, room) = (self.stream.total_in(), self.text.capacity() - self.text.len());
                let before = self.text.len();
                let status = self.stream.decompress_vec(input, &mut self.text, FlushDecompress::Sync);
                let status = status.map_err(|error| format!("invalid compressed data: {error}"))?;
                if self.text.len() > MAX_PAYLOAD {
                    return Err("a message that is too long after decompression".into());
                }
                input = &input[(self.stream.total_in() - read) as usize..];
                // Unused room means that all output has been written.
                if status == Status::StreamEnd || input.is_empty() && self.text.len() - before < room {
                    break;
                }
            }
        }
        Ok(&self.text)
    }
}

/// Tail that senders strip from every compressed message (RFC 7692, section 7.2.1).
const SYNC: [u8; 4] = [0, 0, 0xff, 0xff];
const STEP: usize = 4096;

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    #[test]
    fn inflates_with_and_without_context() {
        let text = "to be or not to be, ".repeat(1000);
        for (chosen, forgets) in [
            ("permessage-deflate", false),
            ("permessage-deflate; client_max_window_bits=10; server_no_context_takeover", true),
        ] {
            let mut inflater = Inflater::new(chosen.as_bytes()).unwrap();
            let mut stream = Compress::new(Compression::default(), false);
            for length in [20_000, 1, 4096, 8192] {
                if forgets {
                    stream.reset();
                }
                let mut payload = Vec::with_capacity(30_000);
                let text = &text.as_bytes()[..length];
                stream.compress_vec(text, &mut payload, FlushCompress::Sync).unwrap();
                assert!(payload.ends_with(&SYNC));
                payload.truncate(payload.len() - SYNC.len());
                assert_eq!(inflater.inflate(&payload).unwrap(), text, "{chosen} {length}");
            }
            assert_eq!(inflater.inflate(&[0]).unwrap(), b"", "nothing, as RFC 7692 has it");
        }
    }

    #[test]
    fn rejects_invalid_extension_and_data() {
        assert!(Inflater::new(b"x-webkit-deflate-frame").is_err());
        let mut inflater = Inflater::new(b"permessage-deflate").unwrap();
        assert!(inflater.inflate(&[0xff; 9]).is_err());
    }
}
