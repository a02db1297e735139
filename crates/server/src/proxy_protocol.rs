//! The PROXY protocol, versions 1 and 2: a proxy that passes bytes on says first whose they are
//!
//! Written from "The PROXY protocol, versions 1 & 2" by its author, W. Tarreau of HAProxy.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// What a header says of the connection behind it
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proxied {
    /// It comes from this address; over TLS if the proxy says so
    From(SocketAddr, bool),
    /// The proxy speaks for itself, or does not know
    Itself,
}

/// A proxy that should have sent a header did not, or sent what is none
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("the connection broke before the PROXY header was whole")]
    Io(#[from] io::Error),
    #[error("what came is no PROXY header; does the proxy send one, and is it a proxy at all?")]
    Missing,
    #[error("the PROXY header is malformed: {0}")]
    Malformed(&'static str),
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family, length
const V2_FIXED: usize = 16;
/// Addresses and what a proxy may add to them; those in use need a few hundred bytes
const V2_MAX: usize = 4096;
/// The longest line of version 1, its line end included
const V1_MAX: usize = 107;

/// Reads the header, and nothing of what is behind it
///
/// Not cancel safe: what was read is lost, so a connection of which this was cancelled can only be closed.
pub(crate) async fn read(stream: &mut TcpStream) -> Result<Proxied, HeaderError> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == *SIGNATURE {
        return read_v2(stream).await;
    }
    if start.starts_with(b"PROXY ") {
        return read_v1(stream, &start).await;
    }
    Err(HeaderError::Missing)
}

async fn read_v2(stream: &mut TcpStream) -> Result<Proxied, HeaderError> {
    let mut fixed = [0; V2_FIXED - SIGNATURE.len()];
    stream.read_exact(&mut fixed).await?;
    let [version_command, family, high, low] = fixed;
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len > V2_MAX {
        return Err(HeaderError::Malformed("it is longer than 4096 bytes"));
    }
    let mut rest = vec![0; len];
    stream.read_exact(&mut rest).await?;
    parse_v2(version_command, family, &rest)
}

fn parse_v2(version_command: u8, family: u8, rest: &[u8]) -> Result<Proxied, HeaderError> {
    const SHORT: HeaderError = HeaderError::Malformed("its addresses are cut short");
    match version_command {
        0x20 => return Ok(Proxied::Itself),
        0x21 => {}
        _ => return Err(HeaderError::Malformed("its version is not 2, or its command unknown")),
    }
    // Over TCP; a local socket or something else has no address to tell.
    let (source, extensions): (SocketAddr, &[u8]) = match family {
        0x11 => {
            let (addresses, extensions) = rest.split_first_chunk::<12>().ok_or(SHORT)?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
            ((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into(), extensions)
        }
        0x21 => {
            let (addresses, extensions) = rest.split_first_chunk::<36>().ok_or(SHORT)?;
            let (source, ports) = addresses.split_first_chunk::<16>().ok_or(SHORT)?;
            let port = u16::from_be_bytes([ports[16], ports[17]]);
            ((Ipv6Addr::from(*source), port).into(), extensions)
        }
        _ => return Ok(Proxied::Itself),
    };
    Ok(Proxied::From(source, says_tls(extensions)?))
}

/// Whether an extension says that the client came over TLS
fn says_tls(mut extensions: &[u8]) -> Result<bool, HeaderError> {
    const TLS: u8 = 0x20;
    const CLIENT_USED_TLS: u8 = 0x01;
    let mut secure = false;
    while let Some((&[kind, high, low], rest)) = extensions.split_first_chunk::<3>() {
        let len = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) =
            rest.split_at_checked(len).ok_or(HeaderError::Malformed("an extension is cut short"))?;
        secure |= kind == TLS && value.first().is_some_and(|client| client & CLIENT_USED_TLS != 0);
        extensions = rest;
    }
    if extensions.is_empty() { Ok(secure) } else { Err(HeaderError::Malformed("an extension is cut short")) }
}

async fn read_v1(stream: &mut TcpStream, start: &[u8]) -> Result<Proxied, HeaderError> {
    let mut line = [0; V1_MAX];
    line[..start.len()].copy_from_slice(start);
    let mut len = start.len();
    loop {
        // Looked at before it is taken: what stands behind the line end belongs to the client.
        let seen = stream.peek(&mut line[len..]).await?;
        let new = &line[len..len + seen];
        let taken = new.iter().position(|&byte| byte == b'\n').map_or(seen, |at| at + 1);
        if seen == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        stream.read_exact(&mut line[len..len + taken]).await?;
        len += taken;
        if line[len - 1] == b'\n' {
            return parse_v1(&line[..len]);
        }
        if len == V1_MAX {
            return Err(HeaderError::Malformed("its line is longer than 107 bytes"));
        }
    }
}

fn parse_v1(line: &[u8]) -> Result<Proxied, HeaderError> {
    const BAD: HeaderError = HeaderError::Malformed("its line is not of the form of version 1");
    let text = std::str::from_utf8(line).ok().and_then(|line| line.strip_suffix("\r\n")).ok_or(BAD)?;
    let mut words = text.split(' ');
    if words.next() != Some("PROXY") {
        return Err(BAD);
    }
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(Proxied::Itself);
    }
    let mut address = || words.next().and_then(|word| word.parse::<IpAddr>().ok());
    let (source, destination) = (address().ok_or(BAD)?, address().ok_or(BAD)?);
    let mut port = || words.next().and_then(|word| word.parse::<u16>().ok());
    let (source_port, _) = (port().ok_or(BAD)?, port().ok_or(BAD)?);
    let fits = match family {
        Some("TCP4") => source.is_ipv4() && destination.is_ipv4(),
        Some("TCP6") => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    if !fits || words.next().is_some() {
        return Err(BAD);
    }
    Ok(Proxied::From(SocketAddr::new(source, source_port), false))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// A header of version 2
    fn v2(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([version_command, family]);
        header.extend(u16::try_from(rest.len()).expect("a short rest").to_be_bytes());
        header.extend(rest);
        header
    }

    fn v4(extensions: &[u8]) -> Vec<u8> {
        let mut rest = vec![192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
        rest.extend(extensions);
        v2(0x21, 0x11, &rest)
    }

    /// Sends this, in pieces of this size, and tells what was read and what was left
    async fn read_from(bytes: &[u8], piece: usize) -> (Result<Proxied, HeaderError>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("an address"));
        let (client, accepted) = tokio::join!(client, listener.accept());
        let (mut client, mut server) = (client.expect("a connection"), accepted.expect("a connection").0);
        client.set_nodelay(true).expect("a socket");
        let pieces: Vec<Vec<u8>> = bytes.chunks(piece).map(<[u8]>::to_vec).collect();
        let sender = tokio::spawn(async move {
            for piece in pieces {
                client.write_all(&piece).await.expect("written");
                tokio::task::yield_now().await;
            }
        });
        let outcome = read(&mut server).await;
        sender.await.expect("sent");
        let mut left = Vec::new();
        // Dropping the sender ended the stream.
        let _ = server.read_to_end(&mut left).await;
        (outcome, left)
    }

    #[tokio::test]
    async fn both_versions_are_read_to_the_byte_however_they_are_cut() {
        let v4_source = Proxied::From("192.0.2.1:4660".parse().expect("an address"), false);
        let mut v6 = Vec::from(Ipv6Addr::LOCALHOST.octets());
        v6.extend([0; 16]);
        v6.extend([0x12, 0x34, 0, 80]);
        let v6_source = Proxied::From("[::1]:4660".parse().expect("an address"), false);
        for (header, expected) in [
            (v4(b""), v4_source),
            (v4(b"\x04\x00\x02xx\x05\x00\x00"), v4_source),
            (v2(0x21, 0x21, &v6), v6_source),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n".to_vec(), v4_source),
            (b"PROXY TCP6 ::1 ::2 4660 80\r\n".to_vec(), v6_source),
            (b"PROXY UNKNOWN\r\n".to_vec(), Proxied::Itself),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), Proxied::Itself),
            (v2(0x20, 0x00, b""), Proxied::Itself),
            (v2(0x20, 0x11, &[7; 12]), Proxied::Itself),
            (v2(0x21, 0x00, b""), Proxied::Itself),
            (v2(0x21, 0x31, &[0; 216]), Proxied::Itself),
        ] {
            let mut bytes = header.clone();
            bytes.extend(b"GET / HTTP/1.1\r\n\r\n");
            for piece in [1, 13, 1000] {
                let (outcome, left) = read_from(&bytes, piece).await;
                assert_eq!(outcome.expect("a header"), expected, "{header:?} in pieces of {piece}");
                assert_eq!(left, b"GET / HTTP/1.1\r\n\r\n", "{header:?} in pieces of {piece}");
            }
        }
    }

    #[tokio::test]
    async fn an_extension_tells_that_the_client_came_over_tls() {
        for (extension, expected) in [
            (&b"\x20\x00\x05\x01\0\0\0\0"[..], true),
            (b"\x20\x00\x05\x00\0\0\0\0", false),
            (b"\x20\x00\x00", false),
            (b"\x01\x00\x02h2\x20\x00\x05\x07\0\0\0\0", true),
        ] {
            let (outcome, _) = read_from(&v4(extension), 1000).await;
            assert!(matches!(outcome, Ok(Proxied::From(_, secure)) if secure == expected), "{extension:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let mut too_long = SIGNATURE.to_vec();
        too_long.extend([0x21, 0x11, 0xff, 0xff]);
        let endless = format!("PROXY TCP4 {}", "1".repeat(200));
        for bytes in [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            b"PROXY_TCP4 1 2 3 4\r\n".to_vec(),
            too_long,
            v2(0x11, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x21, &[0; 35]),
            v4(b"\x20"),
            v4(b"\x20\x00\x05\x01"),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4660\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80 1\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 65536\r\n".to_vec(),
            b"PROXY TCP4 ::1 ::1 4660 80\r\n".to_vec(),
            b"PROXY TCP6 192.0.2.1 10.0.0.1 4660 80\r\n".to_vec(),
            b"PROXY TCP5 192.0.2.1 10.0.0.1 4660 80\r\n".to_vec(),
            b"PROXY TCP4  192.0.2.1 10.0.0.1 4660 80\r\n".to_vec(),
            endless.into_bytes(),
            b"PROXY".to_vec(),
            v4(b"")[..20].to_vec(),
        ] {
            let (outcome, _) = read_from(&bytes, 1000).await;
            assert!(outcome.is_err(), "{:?}", String::from_utf8_lossy(&bytes));
        }
    }
}
