//! Listening: an address belongs to a single server.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use roomcast_server::{Io, ServeError, Server};
use tokio::sync::oneshot;

use crate::support::{Client, POLLING, Rig, get};

fn server() -> Server {
    Server::new(Io::new())
}

fn is_taken(address: SocketAddr) -> bool {
    match server().bind(address) {
        Err(ServeError::Bind { source, .. }) => source.kind() == ErrorKind::AddrInUse,
        Err(other) => panic!("{other}"),
        Ok(_) => false,
    }
}

#[tokio::test]
async fn second_server_on_taken_address_fails() {
    let first = server().bind("127.0.0.1:0").expect("a free port");
    let port = first.address().port();
    assert!(is_taken(first.address()));
    assert!(is_taken((Ipv4Addr::UNSPECIFIED, port).into()));
    drop(first);
    assert!(!is_taken((Ipv4Addr::LOCALHOST, port).into()), "the address is free again");
}

#[tokio::test]
async fn wildcards_of_both_families_conflict() {
    let Ok(first) = server().bind("[::]:0") else { return };
    let port = first.address().port();
    for address in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST] {
        assert!(is_taken((address, port).into()), "{address}");
    }
    assert!(is_taken((Ipv6Addr::LOCALHOST, port).into()));
    drop(first);
    let v4 = server().bind("0.0.0.0:0").expect("a free port");
    assert!(is_taken((Ipv6Addr::UNSPECIFIED, v4.address().port()).into()));
}

#[tokio::test]
async fn ipv6_wildcard_serves_ipv4() {
    let io = Io::new();
    let Ok(bound) = Server::new(io.clone()).bind("[::]:0") else { return };
    let port = bound.address().port();
    let task = tokio::spawn(bound.serve());
    let mut client = Client::connect((Ipv4Addr::LOCALHOST, port).into()).await;
    client.send(&get(POLLING, "")).await;
    assert_eq!(client.answer().await.status, 200);
    task.abort();
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the server has threads of its own")]
async fn only_own_threads_share_address() {
    const THREADS: usize = 3;
    let io = Io::new();
    let bound = Server::new(io.clone()).bind("127.0.0.1:0").expect("a free port");
    let address = bound.address();
    let (stop, stopped) = oneshot::channel::<()>();
    let running =
        std::thread::spawn(move || bound.run_with_shutdown(THREADS, async { _ = stopped.await }).map(drop));
    let mut clients = Vec::new();
    for _ in 0..60 {
        let mut client = Client::connect(address).await;
        client.send(&get(POLLING, "")).await;
        assert_eq!(client.answer().await.status, 200);
        clients.push(client);
        assert!(is_taken(address));
    }
    drop(stop);
    running.join().expect("no panic").expect("no server error");
}

#[tokio::test]
async fn frees_address_immediately_after_shutdown() {
    let io = Io::new();
    let rig = Rig::start(&io, Server::new(io.clone()));
    let address = rig.address;
    // The server closes first, so its end of the connection stays in TIME_WAIT.
    let mut client = rig.connect().await;
    client.send(&get("/nothing", "Connection: close\r\n")).await;
    client.end().await;
    drop((rig, client));
    for _ in 0..500 {
        if !is_taken(address) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the address is still in use");
}

#[test]
fn rejects_zero_limits() {
    for (server, setting) in [
        (server().max_headers(0), "max_headers"),
        (server().max_connections(0), "max_connections"),
        (server().header_timeout(Duration::ZERO), "header_timeout"),
    ] {
        let error = server.bind("127.0.0.1:0").expect_err("no client could connect").to_string();
        assert!(error.starts_with(&format!("invalid setting `{setting}`: is 0: ")), "{error}");
    }
}
