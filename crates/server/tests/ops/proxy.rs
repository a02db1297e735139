//! Client addresses with and without proxies.

use std::net::IpAddr;

use bytes::Bytes;
use http_body_util::Empty;
use roomcast_server::http::{IpNet, Peer};
use roomcast_server::metrics::Limit;
use roomcast_server::transport::Endpoint;
use roomcast_server::{Config, Io, Server, Socket};
use tower_service::Service;

use crate::support::{Client, Frame, POLLING, Rig, UPGRADE, WebSocket, get};

/// Sends each plain client its address.
fn teller(config: Config) -> Io {
    let io =
        Io::builder().config(config).endpoint(Endpoint::plain("/ws")).endpoint(Endpoint::socket_io()).build();
    io.on_connect(async |socket: Socket| {
        let (address, secure) = (socket.handshake().address(), socket.handshake().is_secure());
        let address = address.map_or_else(String::new, |address| address.to_string());
        let _ = socket.emit("message", format!("{address} {secure}"));
    });
    io
}

fn trusting(networks: &[&str]) -> Config {
    let networks = networks.iter().map(|text| {
        text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).expect("a network")
    });
    Config::new().http(|http| http.trusted_proxies(networks))
}

async fn told(mut client: Client, headers: &str) -> String {
    client.send(&get("/ws", &format!("{UPGRADE}{headers}"))).await;
    assert_eq!(client.answer().await.status, 101);
    match WebSocket(client).next().await {
        Frame::Text(told) => told,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn trusts_headers_of_trusted_proxies_only() {
    let io = teller(trusting(&["127.0.0.1"]));
    let rig = Rig::start(&io, Server::new(io.clone()));
    let headers = "X-Forwarded-For: 203.0.113.9, 198.51.100.7\r\nX-Forwarded-Proto: https\r\n";
    assert_eq!(told(rig.connect().await, headers).await, "198.51.100.7:0 true");
    let stranger = Client::connect_from("127.0.0.2", rig.address).await;
    let told = told(stranger, headers).await;
    assert!(told.starts_with("127.0.0.2:") && told.ends_with(" false"), "{told}");
}

#[tokio::test]
async fn address_limit_counts_clients_behind_proxy() {
    let io = teller(trusting(&["127.0.0.1"]).limits(|limits| limits.max_connections_per_address(1)));
    let rig = Rig::start(&io, Server::new(io.clone()));
    // The proxy opens more connections than a single client may have.
    let mut proxy = Vec::new();
    for client in ["198.51.100.1", "198.51.100.2", "198.51.100.1"] {
        let mut connection = rig.connect().await;
        connection.send(&get(POLLING, &format!("X-Forwarded-For: {client}\r\n"))).await;
        proxy.push((connection.answer().await.status, connection));
    }
    let statuses: Vec<u16> = proxy.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200, 200, 503]);
    assert_eq!(io.metrics().limits_exceeded(Limit::Address), 1);
}

/// Returns a version 2 header for a client at 192.0.2.1:4660, with an extension.
fn version_2(extension: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0".to_vec();
    header.push(12 + u8::try_from(extension.len()).expect("a short extension"));
    header.extend([192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80]);
    header.extend(extension);
    header
}

#[tokio::test]
async fn reads_client_address_from_proxy_protocol() {
    let io = teller(trusting(&["127.0.0.1"]));
    let rig = Rig::start(&io, Server::new(io.clone()).proxy_protocol(true));
    for (header, expected) in [
        (version_2(b""), "192.0.2.1:4660 false"),
        (version_2(b"\x20\0\x05\x01\0\0\0\0"), "192.0.2.1:4660 true"),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n".to_vec(), "192.0.2.1:4660 false"),
        (b"PROXY TCP6 2001:db8::1 ::1 4660 80\r\n".to_vec(), "[2001:db8::1]:4660 false"),
    ] {
        let mut client = rig.connect().await;
        client.send_bytes(&header).await;
        // Forwarding headers of the client behind the proxy are ignored.
        assert_eq!(told(client, "X-Forwarded-For: 203.0.113.9\r\n").await, expected);
    }
}

#[tokio::test]
async fn requires_proxy_header_from_trusted_peers() {
    let io = teller(trusting(&["127.0.0.1"]).limits(|limits| limits.max_connections_per_address(1)));
    let server =
        Server::new(io.clone()).proxy_protocol(true).header_timeout(std::time::Duration::from_secs(2));
    let rig = Rig::start(&io, server);
    let mut bare = rig.connect().await;
    bare.send(&get(POLLING, "")).await;
    assert_eq!(bare.end().await, "");
    let mut silent = rig.connect().await;
    assert_eq!(silent.end().await, "");
    assert_eq!(io.metrics().limits_exceeded(Limit::ProxyHeader), 2);

    let direct = Client::connect_from("127.0.0.2", rig.address).await;
    assert!(told(direct, "").await.starts_with("127.0.0.2:"));
    // An untrusted peer's header is not parsed: it is invalid HTTP.
    let mut liar = Client::connect_from("127.0.0.3", rig.address).await;
    liar.send_bytes(&version_2(b"")).await;
    liar.send(&get(POLLING, "")).await;
    assert_eq!(liar.answer().await.status, 400);
}

#[tokio::test]
async fn counts_proxied_connections_per_client() {
    let io = teller(trusting(&["127.0.0.1"]).limits(|limits| limits.max_connections_per_address(1)));
    let rig = Rig::start(&io, Server::new(io.clone()).proxy_protocol(true));
    let mut statuses = Vec::new();
    let mut kept = Vec::new();
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.1"] {
        let mut connection = rig.connect().await;
        connection.send(&format!("PROXY TCP4 {client} 10.0.0.1 4660 80\r\n")).await;
        connection.send(&get("/nothing", "")).await;
        statuses.push(connection.answer().await.status);
        kept.push(connection);
    }
    assert_eq!(statuses, [404, 404, 503]);
}

#[tokio::test]
async fn mounted_server_uses_peer_extension() {
    let io = teller(trusting(&["10.0.0.0/8"]).limits(|limits| limits.max_connections_per_address(1)));
    let mut statuses = Vec::new();
    for (peer, client) in [
        ("10.0.0.1:1", "198.51.100.1"),
        ("10.0.0.2:1", "198.51.100.1"),
        ("10.0.0.2:1", "198.51.100.2"),
        ("192.0.2.1:1", "198.51.100.3"),
        ("192.0.2.1:1", "198.51.100.4"),
    ] {
        let request = http::Request::get(POLLING)
            .header("x-forwarded-for", client)
            .extension(Peer { address: peer.parse().expect("an address"), secure: false })
            .body(Empty::<Bytes>::new())
            .expect("a request");
        statuses.push(io.service().call(request).await.expect("an answer").status().as_u16());
    }
    assert_eq!(statuses, [200, 503, 200, 200, 503]);
}
