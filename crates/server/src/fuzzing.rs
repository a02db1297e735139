//! Decoders exposed for fuzzing; not part of the public API.

use std::net::SocketAddr;

use crate::serve::proxy_protocol::{Header, Proxied};

/// Decodes a PROXY protocol header from chunks; returns its length, source address and TLS flag.
///
/// # Errors
/// Returns a message if the header is malformed.
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
        assert_eq!(taken, piece.len(), "an incomplete header consumes the whole chunk");
    }
    Ok(None)
}

/// Result of [`proxy_header`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "it is for fuzzing alone")]
pub struct ProxyHeader {
    /// Length in bytes.
    pub len: usize,
    /// Client address and whether the client used TLS; `None` for the proxy's own connection.
    pub source: Option<(SocketAddr, bool)>,
}
