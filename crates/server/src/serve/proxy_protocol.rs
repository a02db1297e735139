//! The PROXY protocol, versions 1 and 2: a header with the client's address, sent by a proxy
//!
//! Follows "The PROXY protocol, versions 1 & 2" by W. Tarreau of HAProxy.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Connection information in a PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proxied {
    /// Forwarded from this address; over TLS if the flag is set
    From(SocketAddr, bool),
    /// The proxy's own connection, or an unknown source
    Itself,
}

/// A missing or malformed PROXY header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("connection closed before the PROXY header was complete")]
    Io(#[from] io::Error),
    #[error("missing PROXY header; check that the peer is a proxy and sends one")]
    Missing,
    #[error("malformed PROXY header: {0}")]
    Malformed(&'static str),
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family, length
const V2_FIXED: usize = 16;
/// Addresses and extensions; real headers need a few hundred bytes
const V2_MAX: usize = 4096;
/// Longest line of version 1, including the line end
const V1_MAX: usize = 107;

/// Reads the header and nothing after it.
///
/// # Cancel safety
/// Not cancel safe: bytes already read are lost, so the connection can only be closed.
pub(crate) async fn read(stream: &mut TcpStream) -> Result<Proxied, HeaderError> {
    let (mut header, mut buffer) = (Header::default(), [0; 256]);
    loop {
        // Peeked before it is consumed: bytes after the header belong to the client.
        let seen = stream.peek(&mut buffer).await?;
        if seen == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let (taken, proxied) = header.take(&buffer[..seen])?;
        stream.read_exact(&mut buffer[..taken]).await?;
        if let Some(proxied) = proxied {
            return Ok(proxied);
        }
    }
}

/// Incremental parser of a header.
#[derive(Debug, Default)]
pub(crate) struct Header {
    bytes: Vec<u8>,
}

impl Header {
    /// Consumes header bytes; returns their number and, once the header is complete, its content.
    ///
    /// An incomplete header consumes all bytes. The result does not depend on how the bytes are split.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<Proxied>), HeaderError> {
        let mut rest = bytes;
        let proxied = loop {
            let wanted = match self.state()? {
                State::Whole(proxied) => break Some(proxied),
                State::Bytes(wanted) => wanted.min(rest.len()),
                State::Line => {
                    let line = &rest[..rest.len().min(V1_MAX - self.bytes.len())];
                    line.iter().position(|&byte| byte == b'\n').map_or(line.len(), |at| at + 1)
                }
            };
            if wanted == 0 {
                break None;
            }
            let (more, behind) = rest.split_at(wanted);
            self.bytes.extend_from_slice(more);
            rest = behind;
        };
        Ok((bytes.len() - rest.len(), proxied))
    }

    fn state(&self) -> Result<State, HeaderError> {
        let missing = |len: usize| State::Bytes(len - self.bytes.len());
        let Some((start, fixed)) = self.bytes.split_first_chunk::<{ SIGNATURE.len() }>() else {
            return Ok(missing(SIGNATURE.len()));
        };
        if start.starts_with(b"PROXY ") {
            return match self.bytes.last() {
                Some(b'\n') => parse_v1(&self.bytes).map(State::Whole),
                _ if self.bytes.len() == V1_MAX => {
                    Err(HeaderError::Malformed("its line is longer than 107 bytes"))
                }
                _ => Ok(State::Line),
            };
        }
        if start != SIGNATURE {
            return Err(HeaderError::Missing);
        }
        let Some((&[version_command, family, high, low], rest)) = fixed.split_first_chunk::<4>() else {
            return Ok(missing(V2_FIXED));
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len > V2_MAX {
            return Err(HeaderError::Malformed("it is longer than 4096 bytes"));
        }
        if rest.len() < len {
            return Ok(missing(V2_FIXED + len));
        }
        parse_v2(version_command, family, rest).map(State::Whole)
    }
}

/// Progress of a header.
enum State {
    /// At least this many bytes are missing
    Bytes(usize),
    /// The rest of a line is missing
    Line,
    Whole(Proxied),
}

fn parse_v2(version_command: u8, family: u8, rest: &[u8]) -> Result<Proxied, HeaderError> {
    const SHORT: HeaderError = HeaderError::Malformed("its addresses are cut short");
    match version_command {
        0x20 => return Ok(Proxied::Itself),
        0x21 => {}
        _ => return Err(HeaderError::Malformed("its version is not 2, or its command unknown")),
    }
    // Only TCP has an address to report; other families, such as local sockets, do not.
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
    Ok(Proxied::From(source, has_tls_extension(extensions)?))
}

/// Returns whether an extension reports that the client used TLS.
fn has_tls_extension(mut extensions: &[u8]) -> Result<bool, HeaderError> {
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
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// Returns a version 2 header.
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

    /// Sends bytes in pieces of this size; returns the header read and the bytes left.
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
    async fn reads_fragmented_headers_of_both_versions() {
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
    async fn detects_tls_from_extension() {
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
    async fn rejects_invalid_headers() {
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

    /// Returns the number of bytes consumed from the pieces, and the result.
    fn take(bytes: &[u8], cuts: &[usize]) -> (usize, Result<Option<Proxied>, String>) {
        let (mut header, mut at, mut taken) = (Header::default(), 0, 0);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        for end in ends {
            match header.take(&bytes[at..end]) {
                Ok((more, Some(proxied))) => return (taken + more, Ok(Some(proxied))),
                Ok((more, None)) => {
                    assert_eq!(more, end - at, "it is not whole, so all of it belongs to it");
                    taken += more;
                }
                Err(error) => return (0, Err(error.to_string())),
            }
            assert_eq!(header.bytes.len(), taken);
            at = end;
        }
        (taken, Ok(None))
    }

    fn addresses() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
        let v4 = || any::<(Ipv4Addr, u16)>().prop_map(|(ip, port)| SocketAddr::from((ip, port)));
        let v6 = || any::<(Ipv6Addr, u16)>().prop_map(|(ip, port)| SocketAddr::from((ip, port)));
        prop_oneof![(v4(), v4()), (v6(), v6())]
    }

    fn cuts() -> impl Strategy<Value = Vec<usize>> {
        prop::collection::vec(0..5000_usize, 0..6)
    }

    fn extensions() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
        let kind = any::<u8>().prop_filter("another than TLS", |kind| *kind != 0x20);
        prop::collection::vec((kind, prop::collection::vec(any::<u8>(), 0..200)), 0..5)
    }

    fn line((source, destination): (SocketAddr, SocketAddr)) -> Vec<u8> {
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let (ips, ports) = ((source.ip(), destination.ip()), (source.port(), destination.port()));
        format!("PROXY {family} {} {} {} {}\r\n", ips.0, ips.1, ports.0, ports.1).into_bytes()
    }

    fn binary(
        (source, destination): (SocketAddr, SocketAddr),
        extensions: Vec<(u8, Vec<u8>)>,
        secure: bool,
    ) -> Vec<u8> {
        let octets = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let mut rest = [octets(source), octets(destination)].concat();
        rest.extend(source.port().to_be_bytes());
        rest.extend(destination.port().to_be_bytes());
        let tls = secure.then(|| (0x20, vec![1, 0, 0, 0, 0]));
        for (kind, value) in extensions.into_iter().chain(tls) {
            rest.push(kind);
            rest.extend(u16::try_from(value.len()).expect("a short value").to_be_bytes());
            rest.extend(value);
        }
        v2(0x21, if source.is_ipv4() { 0x11 } else { 0x21 }, &rest)
    }

    proptest! {
        #[test]
        fn reads_header_and_nothing_behind_it(
            addresses in addresses(),
            extensions in extensions(),
            secure: bool,
            behind: Vec<u8>,
            cuts in cuts(),
        ) {
            let source = addresses.0;
            let headers = [(line(addresses), false), (binary(addresses, extensions, secure), secure)];
            for (header, secure) in headers {
                let bytes = [&header[..], &behind].concat();
                let expected = (header.len(), Ok(Some(Proxied::From(source, secure))));
                prop_assert_eq!(take(&bytes, &cuts), expected);
                let short = &header[..header.len() - 1];
                prop_assert_eq!(take(short, &cuts), (short.len(), Ok(None)));
            }
        }

        #[test]
        fn fragmentation_never_changes_bounded_result(
            start in prop_oneof![
                Just(Vec::new()),
                Just(b"PROXY TCP4 192.0.2.1 ".to_vec()),
                Just(b"PROXY UNKNOWN".to_vec()),
                any::<[u8; 4]>().prop_map(|fixed| [&SIGNATURE[..], &fixed].concat()),
                (0..5000_u16).prop_map(|len| [&SIGNATURE[..], &[0x21, 0x11], &len.to_be_bytes()].concat()),
            ],
            rest in prop::collection::vec(any::<u8>(), 0..5000),
            cuts in cuts(),
        ) {
            let bytes = [start, rest].concat();
            let outcome = take(&bytes, &[]);
            prop_assert!(outcome.0 <= V2_FIXED + V2_MAX);
            let singly: Vec<usize> = (0..bytes.len()).collect();
            prop_assert_eq!(&take(&bytes, &cuts), &outcome);
            prop_assert_eq!(take(&bytes, &singly), outcome);
        }
    }
}
