//! PROXY protocol headers.

use std::slice;

use roomcast_server::fuzzing::{ProxyHeader, proxy_header};

/// A PROXY header decodes the same at any chunking, consumes no bytes after it, and is bounded.
///
/// The first byte is the chunk size of the rest.
pub fn proxy(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else { return };
    let outcome = proxy_header(slice::from_ref(&bytes).iter().copied());
    for size in [1, usize::from(size).max(1)] {
        assert_eq!(proxy_header(bytes.chunks(size)), outcome, "in pieces of {size}");
    }
    match outcome {
        Ok(Some(header)) => whole(&header, bytes),
        Ok(None) => assert!(bytes.len() < LONGEST, "an unbounded header"),
        Err(error) => assert!(bytes.len() >= SHORTEST, "{error}"),
    }
}

fn whole(header: &ProxyHeader, bytes: &[u8]) {
    let (own, _) = bytes.split_at(header.len);
    assert!((SHORTEST..=LONGEST).contains(&own.len()), "{} bytes", own.len());
    assert_eq!(proxy_header([own]).as_ref(), Ok(&Some(header.clone())));
    assert_eq!(proxy_header([&own[..own.len() - 1]]), Ok(None), "a prefix is complete");
    if let Some((address, _)) = header.source {
        // The text form of the header holds the same address.
        let (ip, family) = (address.ip(), if address.is_ipv4() { "TCP4" } else { "TCP6" });
        let line = format!("PROXY {family} {ip} {ip} {} 0\r\n", address.port());
        let source = Some((address, false));
        assert_eq!(proxy_header([line.as_bytes()]), Ok(Some(ProxyHeader { len: line.len(), source })));
    }
}

/// Shortest input with a decision.
const SHORTEST: usize = 12;
/// Fixed part of version 2 with its longest variable part.
const LONGEST: usize = 16 + 4096;
