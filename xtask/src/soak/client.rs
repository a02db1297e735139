//! Behaviors of soak clients.
//!
//! The WebSocket codec is separate because `xtask` does not depend on the crates it tests, and because these clients
//! return errors where the test kit's clients panic.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

pub(super) type Way = (&'static str, fn(&str) -> io::Result<()>);

/// Runs a client with the behavior selected by its number.
pub(super) fn come_and_go(address: &str, number: u64) -> io::Result<()> {
    way(number).1(address)
}

/// Returns the name of the behavior of this number.
pub(super) fn name(number: u64) -> &'static str {
    way(number).0
}

fn way(number: u64) -> Way {
    WAYS[(number % WAYS.len() as u64) as usize]
}

/// Behaviors, selected in turn by client number.
pub(super) const WAYS: [Way; 11] = [
    ("polling, closed", polling_closed),
    ("polling, abandoned", |address| Polling::join(address).map(drop)),
    ("polling, pending poll abandoned", polling_abandoned),
    ("WebSocket, closed", |address| WebSocket::join(address)?.close()),
    ("WebSocket, reset", |address| reset(&WebSocket::join(address)?.stream)),
    ("WebSocket, abandoned", |address| WebSocket::join(address).map(drop)),
    ("plain WebSocket, closed", plain_closed),
    ("upgrade, completed and closed", upgrade_done),
    ("upgrade, reset while probing", upgrade_failed),
    ("partial request", half_a_request),
    ("protocol violation", against_the_rules),
];

fn polling_closed(address: &str) -> io::Result<()> {
    let mut client = Polling::join(address)?;
    client.post(r#"42["message",1]"#)?;
    expect(client.get()?, r#"42["message-back",1]"#)?;
    client.post("1")
}

fn polling_abandoned(address: &str) -> io::Result<()> {
    let mut client = Polling::join(address)?;
    let target = client.target.clone();
    client.http.send(&format!("GET {target} HTTP/1.1\r\nHost: soak\r\n\r\n"))
}

fn plain_closed(address: &str) -> io::Result<()> {
    let mut client = WebSocket::open(address, "/echo")?;
    client.send(TEXT, b"hello")?;
    expect(client.text()?, "hello")?;
    client.close()
}

fn upgrade_done(address: &str) -> io::Result<()> {
    let mut client = upgrade_begun(address)?.1;
    client.send(TEXT, b"5")?;
    client.send(TEXT, br#"42["message",1]"#)?;
    expect(client.text()?, r#"42["message-back",1]"#)?;
    client.close()
}

fn upgrade_failed(address: &str) -> io::Result<()> {
    let (mut polling, probe) = upgrade_begun(address)?;
    reset(&probe.stream)?;
    polling.post("1")
}

fn upgrade_begun(address: &str) -> io::Result<(Polling, WebSocket)> {
    let polling = Polling::join(address)?;
    let target = polling.target.replace("transport=polling", "transport=websocket");
    let mut probe = WebSocket::open(address, &target)?;
    probe.send(TEXT, b"2probe")?;
    expect(probe.text()?, "3probe")?;
    Ok((polling, probe))
}

fn half_a_request(address: &str) -> io::Result<()> {
    Http::connect(address)?.send("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: so")
}

fn against_the_rules(address: &str) -> io::Result<()> {
    let mut client = WebSocket::join(address)?;
    client.stream.get_mut().write_all(b"\x81\x02hi")?;
    // Ignore messages until the server closes.
    client.stream.read_to_end(&mut Vec::new()).map(drop)
}

/// Makes closing the connection send a reset.
fn reset(stream: &BufReader<TcpStream>) -> io::Result<()> {
    Ok(set_socket_linger(stream.get_ref(), Some(Duration::ZERO))?)
}

/// Socket.IO client in the main namespace, over long-polling.
struct Polling {
    http: Http,
    target: String,
}

impl Polling {
    fn join(address: &str) -> io::Result<Self> {
        let target = "/socket.io/?EIO=4&transport=polling".to_owned();
        let mut client = Self { http: Http::connect(address)?, target };
        let open = client.get()?;
        let sid = open.strip_prefix(r#"0{"sid":""#).and_then(|rest| rest.split('"').next());
        let sid = sid.ok_or_else(|| unexpected(&open))?;
        client.target = format!("{}&sid={sid}", client.target);
        client.post("40")?;
        let mut joined = client.get()?;
        // The `auth` event may be in the same response or the next.
        while !joined.contains(r#"42["auth""#) {
            joined += &client.get()?;
        }
        if joined.starts_with("40{") { Ok(client) } else { Err(unexpected(&joined)) }
    }

    /// Returns the next message; answers pings, which may arrive at any time on a busy machine.
    fn get(&mut self) -> io::Result<String> {
        loop {
            let target = &self.target;
            let body = self.http.ask(&format!("GET {target} HTTP/1.1\r\nHost: soak\r\n\r\n"))?;
            let packets: Vec<_> = body.split(SEPARATOR).filter(|packet| *packet != "2").collect();
            if body.split(SEPARATOR).count() > packets.len() {
                self.post("3")?;
            }
            if !packets.is_empty() {
                return Ok(packets.join("\x1e"));
            }
        }
    }

    fn post(&mut self, body: &str) -> io::Result<()> {
        let (target, length) = (&self.target, body.len());
        let answer = self.http.ask(&format!(
            "POST {target} HTTP/1.1\r\nHost: soak\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"
        ))?;
        expect(answer, "ok")
    }
}

/// Keep-alive HTTP connection.
struct Http(BufReader<TcpStream>);

impl Http {
    fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::with_capacity(2048, stream)))
    }

    fn send(&mut self, request: &str) -> io::Result<()> {
        self.0.get_mut().write_all(request.as_bytes())
    }

    /// Sends a request and returns the body of a 200 response.
    fn ask(&mut self, request: &str) -> io::Result<String> {
        self.send(request)?;
        let (status, length) = self.head()?;
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        let body = String::from_utf8_lossy(&body).into_owned();
        if status.contains(" 200 ") { Ok(body) } else { Err(unexpected(&format!("{status}: {body}"))) }
    }

    fn head(&mut self) -> io::Result<(String, usize)> {
        let mut status = String::new();
        self.0.read_line(&mut status)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            let line = line.trim_end();
            if line.is_empty() {
                return Ok((status.trim_end().to_owned(), length));
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
    }
}

struct WebSocket {
    stream: BufReader<TcpStream>,
}

impl WebSocket {
    fn open(address: &str, target: &str) -> io::Result<Self> {
        let mut http = Http::connect(address)?;
        http.send(&format!(
            "GET {target} HTTP/1.1\r\nHost: soak\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ))?;
        let (status, _) = http.head()?;
        if status.contains(" 101 ") { Ok(Self { stream: http.0 }) } else { Err(unexpected(&status)) }
    }

    /// Opens a Socket.IO session and joins the main namespace.
    fn join(address: &str) -> io::Result<Self> {
        let mut client = Self::open(address, "/socket.io/?EIO=4&transport=websocket")?;
        let open = client.text()?;
        client.send(TEXT, b"40")?;
        let joined = client.text()?;
        if !open.starts_with("0{") || !joined.starts_with("40{") {
            return Err(unexpected(&joined));
        }
        expect(client.text()?, r#"42["auth",{}]"#)?;
        Ok(client)
    }

    fn send(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        // A zero masking key leaves the payload unchanged.
        let header = [0x80 | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        self.stream.get_mut().write_all(&[&header, payload].concat())
    }

    /// Returns the next text other than a ping; answers pings.
    fn text(&mut self) -> io::Result<String> {
        loop {
            let (_, payload) = self.frame()?;
            match payload.as_slice() {
                b"2" => self.send(TEXT, b"3")?,
                _ => return String::from_utf8(payload).map_err(io::Error::other),
            }
        }
    }

    fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut header = [0; 2];
        self.stream.read_exact(&mut header)?;
        let mut length = usize::from(header[1]);
        if length == 126 {
            let mut longer = [0; 2];
            self.stream.read_exact(&mut longer)?;
            length = usize::from(u16::from_be_bytes(longer));
        }
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        Ok((header[0] & 0x0f, payload))
    }

    /// Completes the close handshake.
    fn close(mut self) -> io::Result<()> {
        self.send(CLOSE, &1000_u16.to_be_bytes())?;
        while self.frame()?.0 != CLOSE {}
        Ok(())
    }
}

fn expect(found: String, wanted: &str) -> io::Result<()> {
    if found == wanted { Ok(()) } else { Err(unexpected(&found)) }
}

fn unexpected(what: &str) -> io::Error {
    io::Error::other(format!("unexpected response {what:?}"))
}

/// Separator of packets in a polling payload.
const SEPARATOR: char = '\x1e';
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PATIENCE: Duration = Duration::from_secs(30);
