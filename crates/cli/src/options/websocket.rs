//! WebSocket settings.

use clap::Args;
use clap::builder::BoolishValueParser;
use roomcast::Config;
use roomcast::transport::Compression;

use super::units::size;

/// WebSocket settings.
#[derive(Args, Debug)]
#[command(next_help_heading = "WebSocket")]
pub(crate) struct WebSocket {
    /// Negotiate permessage-deflate with clients that offer it
    #[arg(long, env = "ROOMCAST_COMPRESSION")]
    #[arg(value_parser = BoolishValueParser::new())]
    compression: bool,

    /// Minimum size of a message to compress. Default: 1KiB
    #[arg(long, value_name = "SIZE", value_parser = size::<usize>, requires = "compression")]
    #[arg(env = "ROOMCAST_COMPRESSION_THRESHOLD")]
    compression_threshold: Option<usize>,

    /// Compression level, from 1 (fastest) to 9 (smallest). Default: 6
    #[arg(long, value_name = "N", requires = "compression", env = "ROOMCAST_COMPRESSION_LEVEL")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=9))]
    compression_level: Option<u8>,

    /// Memory level of the compressor (zlib memLevel), from 1 to 9. Default: 8
    #[arg(long, value_name = "N", requires = "compression", env = "ROOMCAST_COMPRESSION_MEMORY_LEVEL")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=9))]
    compression_memory_level: Option<u8>,

    /// Maximum compression window of the server, from 9 to 15 bits. Default: 15
    #[arg(long, value_name = "BITS", requires = "compression", env = "ROOMCAST_COMPRESSION_WINDOW_BITS")]
    #[arg(value_parser = clap::value_parser!(u8).range(9..=15))]
    compression_window_bits: Option<u8>,

    /// Maximum compression window requested from clients that support it, from 9 to 15 bits. Default: 15
    #[arg(long, value_name = "BITS", requires = "compression")]
    #[arg(value_parser = clap::value_parser!(u8).range(9..=15))]
    #[arg(env = "ROOMCAST_COMPRESSION_CLIENT_WINDOW_BITS")]
    compression_client_window_bits: Option<u8>,

    /// Keep a compression context per connection: better ratio, but broadcasts are compressed for each recipient
    #[arg(long, requires = "compression", env = "ROOMCAST_COMPRESSION_CONTEXT")]
    #[arg(value_parser = BoolishValueParser::new())]
    compression_context: bool,

    /// Memory limit for all contexts; further connections get none. Default: 64MiB
    #[arg(long, value_name = "SIZE", value_parser = size::<usize>, requires = "compression_context")]
    #[arg(env = "ROOMCAST_COMPRESSION_CONTEXT_MEMORY")]
    compression_context_memory: Option<usize>,

    /// Close code at shutdown; use 1012 for clients that do not reconnect after 1001
    #[arg(long, value_name = "CODE", default_value_t = 1001, env = "ROOMCAST_DRAIN_CLOSE_CODE")]
    #[arg(value_parser = close_code)]
    drain_close_code: u16,
}

impl WebSocket {
    /// Applies the flags to `config`.
    pub(crate) fn config(&self, config: Config) -> Config {
        config.websocket(|websocket| {
            websocket.compression(self.compression()).drain_close_code(self.drain_close_code)
        })
    }

    fn compression(&self) -> Option<Compression> {
        if !self.compression {
            return None;
        }
        let mut compression = Compression::new().context_takeover(self.compression_context);
        if let Some(bytes) = self.compression_threshold {
            compression = compression.threshold(bytes);
        }
        if let Some(level) = self.compression_level {
            compression = compression.level(level);
        }
        if let Some(level) = self.compression_memory_level {
            compression = compression.memory_level(level);
        }
        if let Some(bits) = self.compression_window_bits {
            compression = compression.window_bits(bits);
        }
        if let Some(bits) = self.compression_client_window_bits {
            compression = compression.client_window_bits(bits);
        }
        if let Some(bytes) = self.compression_context_memory {
            compression = compression.max_context_memory(bytes);
        }
        Some(compression)
    }
}

fn close_code(text: &str) -> Result<u16, String> {
    let code = text.parse().ok().filter(|code| matches!(code, 1001 | 1012 | 3000..=4999));
    code.ok_or_else(|| "expected 1001, 1012, or a private code from 3000 to 4999".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::Options;

    #[test]
    fn accepts_drain_close_codes() {
        for code in ["1001", "1012", "4000"] {
            assert_eq!(close_code(code).ok(), code.parse().ok());
        }
        for code in ["1000", "1006", "5000", "", "away"] {
            assert!(close_code(code).is_err_and(|error| error.contains("1012")), "{code}");
        }
    }

    #[test]
    fn compression_flags_require_compression() {
        let parse = |flags: &[&str]| Options::try_parse_from([&["serve"], flags].concat());
        assert_eq!(parse(&[]).unwrap().websocket.compression(), None);
        assert_eq!(parse(&["--compression"]).unwrap().websocket.compression(), Some(Compression::new()));
        let all = [
            "--compression",
            "--compression-threshold=1",
            "--compression-level=2",
            "--compression-memory-level=3",
            "--compression-window-bits=10",
            "--compression-client-window-bits=11",
            "--compression-context",
            "--compression-context-memory=5",
        ];
        let expected = Compression::new()
            .threshold(1)
            .level(2)
            .memory_level(3)
            .window_bits(10)
            .client_window_bits(11)
            .context_takeover(true)
            .max_context_memory(5);
        assert_eq!(parse(&all).unwrap().websocket.compression(), Some(expected));
        assert!(
            parse(&all[1..2]).is_err() && parse(&["--compression", "--compression-window-bits=8"]).is_err()
        );
        assert!(parse(&["--compression", "--compression-context-memory=5"]).is_err());
    }
}
