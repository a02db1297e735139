//! TLS in the built-in server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use roomcast_server::server::{Tls, TlsError};
use roomcast_server::{Ack, Args, Config, Io, Server, Socket};
use serde_json::json;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, Stream, StreamOwned};

use crate::support::client::{ACK_KINDS, ALL, Client, Kind};
use crate::support::dial::{Dial, tcp};
use crate::support::http::Http;
use crate::support::serve::{On, Running, serve_server, until};

const ONE: (&[u8], &[u8]) =
    (include_bytes!("../certificates/one.crt"), include_bytes!("../certificates/one.key"));
const TWO: (&[u8], &[u8]) =
    (include_bytes!("../certificates/two.crt"), include_bytes!("../certificates/two.key"));

fn chat() -> Io {
    let io = Io::new();
    io.on("echo", async |ack: Ack, args: Args| ack.send(args).map(drop));
    io.on("secure", async |socket: Socket, ack: Ack| ack.send(socket.handshake().is_secure()).map(drop));
    io.on("message", async |socket: Socket, text: String| socket.io().emit("said", text).map(drop));
    io
}

/// Time for a handshake and a first request on a busy machine.
const HEADER_TIMEOUT: Duration = Duration::from_secs(3);

fn running(io: &Io, tls: &Tls, on: On) -> Running {
    serve_server(io, on, Server::new(io.clone()).tls(tls.clone()))
}

/// Returns a client that trusts only this certificate.
fn trusting(server: &Running, certificate: &[u8]) -> Dial {
    let (address, config) = (server.address, config(certificate));
    Dial::custom(move || {
        let client = ClientConnection::new(config.clone(), "localhost".try_into().expect("a valid name"));
        StreamOwned::new(client.expect("settings of a client"), tcp(address))
    })
}

/// Returns client settings that trust only this certificate.
fn config(certificate: &[u8]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate).expect("PEM")).expect("a certificate");
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

#[test]
fn serves_all_client_kinds() {
    let tls = Tls::from_pem(ONE.0, ONE.1).expect("a matching key");
    for on in [On::CurrentThread, On::Workers(2), On::Threads(2)] {
        let io = chat();
        let server = running(&io, &tls, on);
        let dial = trusting(&server, ONE.0);
        let mut clients: Vec<_> = ALL.iter().map(|kind| Client::connect(*kind, &dial)).collect();
        for at in 0..clients.len() {
            let kind = clients[at].kind;
            // Takes more than one record, read or write.
            let text = format!("{at}{}", "x".repeat(100_000));
            if ACK_KINDS.contains(&kind) {
                assert_eq!(clients[at].ask("echo", json!([text, at])), json!([text, at]), "{kind:?}");
                assert_eq!(clients[at].ask("secure", json!([])), json!([true]), "{kind:?}");
            }
            clients[at].emit("message", json!([text]));
            clients.iter_mut().for_each(|client| client.expect("said", json!([text])));
        }
        clients.into_iter().for_each(Client::close);
        until(|| io.client_count() == 0);
    }
}

#[test]
fn replaces_certificate_without_disconnects() {
    let tls = Tls::from_pem(ONE.0, ONE.1).expect("a matching key");
    let io = chat();
    let server = running(&io, &tls, On::Workers(2));
    let mut early = Client::connect(Kind::WebSocket, &trusting(&server, ONE.0));
    let mut polling = Client::connect(Kind::Polling, &trusting(&server, ONE.0));
    tls.replace(TWO.0, TWO.1).expect("a matching key");
    let mut late = Client::connect(Kind::WebSocket, &trusting(&server, TWO.0));
    for client in [&mut early, &mut late] {
        assert_eq!(client.ask("echo", json!([1])), json!([1]));
    }
    // The next request uses the existing connection.
    assert_eq!(polling.ask("echo", json!([1])), json!([1]));
    let mut stream = trusting(&server, ONE.0).open();
    let refused = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").and_then(|()| stream.flush());
    assert!(refused.is_err(), "the old certificate is no longer used");
    // An unusable certificate changes nothing.
    assert!(matches!(tls.replace(ONE.0, TWO.1), Err(TlsError::Unusable(_))));
    Client::connect(Kind::Plain, &trusting(&server, TWO.0)).close();
}

#[test]
fn reloads_files_and_ignores_bad_ones() {
    let folder = std::env::temp_dir().join(format!("roomcast-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a writable folder");
    let (certificate, key) = (folder.join("a.crt"), folder.join("a.key"));
    let write = |(crt, own): (&[u8], &[u8])| {
        std::fs::write(&certificate, crt).expect("a writable file");
        std::fs::write(&key, own).expect("a writable file");
    };
    assert!(matches!(Tls::from_files(&certificate, &key), Err(TlsError::Read { .. })));
    write(ONE);
    let tls = Tls::from_files(&certificate, &key).expect("a matching key");
    let io = chat();
    let server = running(&io, &tls, On::Workers(1));
    let believes = |certificate: &[u8]| {
        assert_eq!(Http::open(&trusting(&server, certificate)).get("/nothing").status, 404);
    };
    believes(ONE.0);
    write((TWO.0, ONE.1));
    assert!(matches!(tls.reload(), Err(TlsError::Unusable(_))));
    believes(ONE.0);
    write((b"nothing", TWO.1));
    assert!(matches!(tls.reload(), Err(TlsError::Certificate(_))));
    write((TWO.0, b"nothing"));
    assert!(matches!(tls.reload(), Err(TlsError::Key(_))));
    believes(ONE.0);
    write(TWO);
    tls.reload().expect("a matching key");
    believes(TWO.0);
    std::fs::remove_dir_all(&folder).expect("an existing file");
}

#[test]
fn late_reader_gets_all_in_order() {
    let tls = Tls::from_pem(ONE.0, ONE.1).expect("a matching key");
    let io =
        Io::builder().config(Config::new().limits(|limits| limits.outbox_limit(64 * 1024 * 1024))).build();
    let server = running(&io, &tls, On::Workers(2));
    // More than sockets and TLS buffer.
    let (numbers, filler) = (200, "x".repeat(100_000));
    for kind in [Kind::WebSocket, Kind::Upgraded, Kind::Json] {
        let mut client = Client::connect(kind, &trusting(&server, ONE.0));
        for number in 0..numbers {
            io.emit("number", (number, &filler)).expect("a valid name");
        }
        for number in 0..numbers {
            client.expect("number", json!([number, filler]));
        }
        client.close();
        until(|| io.client_count() == 0);
    }
}

#[test]
fn times_out_unfinished_handshakes() {
    let tls = Tls::from_pem(ONE.0, ONE.1).expect("a matching key");
    let io = chat();
    let hurried = Server::new(io.clone()).tls(tls).header_timeout(HEADER_TIMEOUT);
    let server = serve_server(&io, On::Workers(1), hurried);
    let mut stream = TcpStream::connect(server.address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("an open socket");
    // An incomplete handshake record.
    stream.write_all(&[22, 3, 1, 2, 0, 1]).expect("the server listens");
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    assert!(ended.is_ok_and(|len| len == 0), "{rest:?}");
    // A client that sends HTTP to a TLS port.
    let mut stream = TcpStream::connect(server.address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("an open socket");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("the server listens");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
    // Other clients are still served.
    Client::connect(Kind::WebSocket, &trusting(&server, ONE.0)).close();
}

#[test]
fn idle_connections_end_with_close_notify() {
    let tls = Tls::from_pem(ONE.0, ONE.1).expect("a matching key");
    let io = chat();
    let server = Server::new(io.clone()).tls(tls).keep_alive_timeout(Duration::from_millis(300));
    let server = serve_server(&io, On::CurrentThread, server);
    let mut tcp = TcpStream::connect(server.address).expect("the server listens");
    let mut session = ClientConnection::new(config(ONE.0), "localhost".try_into().expect("a valid name"))
        .expect("a session");
    let mut stream = Stream::new(&mut session, &mut tcp);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
    let mut answer = Vec::new();
    // Without close_notify this returns an error.
    stream.read_to_end(&mut answer).expect("an orderly end");
    assert!(answer.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&answer));
}
