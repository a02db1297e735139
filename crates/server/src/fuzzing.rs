//! Decoders that are nobody's business but a fuzzer's; no part of what this crate promises

use std::net::SocketAddr;

use crate::serve::proxy_protocol::{Header, Proxied};

/// Reads a PROXY header that comes in pieces: how many bytes it took once it is whole, and whose address it tells, if
/// it does, and whether TLS was used
///
/// # Errors
/// When it is none, in words.
pub fn proxy_header<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<ProxyHeader>, String> {
    let (mut header, mut len) = (Header::default(), 0);
    for piece in pieces {
        let (taken, proxied) = header.take(piece).map_err(|error| error.to_string())?;
        len += taken;
        if let Some(proxied) = proxied {
            let source = match proxied {
                Proxied::From(address, secure) => Some((address, secure)),
                Proxied::Itself => None,
            };
            return Ok(Some(ProxyHeader { len, source }));
        }
        assert_eq!(taken, piece.len(), "until it is whole, everything belongs to it");
    }
    Ok(None)
}

/// What [`proxy_header`] has read
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "it is for fuzzing alone")]
pub struct ProxyHeader {
    /// Its bytes
    pub len: usize,
    /// Who is behind the proxy, and whether over TLS; none if the proxy speaks for itself
    pub source: Option<(SocketAddr, bool)>,
}
