//! PROXY protocol headers.

use std::slice;

use roomcast_server::fuzzing::{ProxyHeader, proxy_header};

/// A PROXY header decodes the same at any chunking, consumes no bytes after it, and is bounded.
///
/// The first byte is the size of the pieces in which the rest comes.
pub fn proxy(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else { return };
    let outcome = proxy_header(slice::from_ref(&bytes).iter().copied());
    for size in [1, usize::from(size).max(1)] {
        assert_eq!(proxy_header(bytes.chunks(size)), outcome, "in pieces of {size}");
    }
    match outcome {
        Ok(Some(header)) => whole(&header, bytes),
        Ok(None) => assert!(bytes.len() < LONGEST, "it never ends"),
        Err(error) => assert!(bytes.len() >= SHORTEST, "{error}"),
    }
}

fn whole(header: &ProxyHeader, bytes: &[u8]) {
    let (own, _) = bytes.split_at(header.len);
    assert!((SHORTEST..=LONGEST).contains(&own.len()), "{} bytes", own.len());
    assert_eq!(proxy_header([own]).as_ref(), Ok(&Some(header.clone())));
    assert_eq!(proxy_header([&own[..own.len() - 1]]), Ok(None), "it was whole before");
    if let Some((address, _)) = header.source {
        // Put as a line of text it is the same address.
        let (ip, family) = (address.ip(), if address.is_ipv4() { "TCP4" } else { "TCP6" });
        let line = format!("PROXY {family} {ip} {ip} {} 0\r\n", address.port());
        let source = Some((address, false));
        assert_eq!(proxy_header([line.as_bytes()]), Ok(Some(ProxyHeader { len: line.len(), source })));
    }
}

/// Less tells nothing yet.
const SHORTEST: usize = 12;
/// The fixed part of version 2, and what may come with it.
const LONGEST: usize = 16 + 4096;
