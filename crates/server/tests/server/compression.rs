//! Compressed poll answers as clients see them.

use std::io::Read;

use flate2::read::{GzDecoder, ZlibDecoder};
use roomcast_server::http::HttpCompression;
use roomcast_server::{Config, Io, Socket};
use serde_json::Value;

use crate::support::http::{Answer, Http};
use crate::support::serve::{Running, serve};

const POLL: &str = "/socket.io/?EIO=4&transport=polling";

/// Joins and polls for an event of `len` letters.
fn told(server: &Running, len: usize, accept: &str) -> Answer {
    let mut http = Http::open(&server.dial);
    let open: Value = serde_json::from_str(&http.get(POLL).body[1..]).expect("JSON");
    let poll = format!("{POLL}&sid={}", open["sid"].as_str().expect("an id"));
    assert_eq!(http.post(&poll, b"40").status, 200);
    assert!(http.get(&poll).body.starts_with("40{"));
    assert_eq!(http.post(&poll, format!("42[\"say\",{len}]").as_bytes()).status, 200);
    let answer = http.request("GET", &poll, accept);
    assert_eq!(answer.status, 200);
    answer
}

fn text(answer: &Answer) -> String {
    let mut text = String::new();
    match answer.header("content-encoding") {
        Some("gzip") => GzDecoder::new(&answer.bytes[..]).read_to_string(&mut text).expect("gzip"),
        Some("deflate") => ZlibDecoder::new(&answer.bytes[..]).read_to_string(&mut text).expect("zlib"),
        Some(other) => panic!("{other} was not accepted"),
        None => return answer.body.clone(),
    };
    text
}

fn chatty(config: Config) -> Io {
    let io = Io::builder().config(config).build();
    io.on("say", async |socket: Socket, len: usize| socket.emit("said", "a".repeat(len)).map(drop));
    io
}

#[test]
fn compresses_long_polls_when_accepted() {
    let server = serve(&chatty(Config::new()));
    let packet = |len: usize| format!("42[\"said\",\"{}\"]", "a".repeat(len));
    for (len, accept, coding) in [
        (5000, "Accept-Encoding: gzip, deflate, br\r\n", Some("gzip")),
        (5000, "Accept-Encoding: deflate\r\n", Some("deflate")),
        (500_000, "Accept-Encoding: gzip\r\n", Some("gzip")),
        (5000, "Accept-Encoding: br\r\n", None),
        (5000, "", None),
        (1010, "Accept-Encoding: gzip\r\n", None),
        (1011, "Accept-Encoding: gzip\r\n", Some("gzip")),
    ] {
        let answer = told(&server, len, accept);
        assert_eq!(answer.header("content-encoding"), coding, "{len} {accept}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=UTF-8"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(text(&answer), packet(len), "{len} {accept}");
    }
}

#[test]
fn applies_compression_threshold_and_switch() {
    let gzip = "Accept-Encoding: gzip\r\n";
    let low = serve(&chatty(
        Config::new().http(|http| http.compression(HttpCompression::default().threshold(50).level(9))),
    ));
    assert_eq!(told(&low, 40, gzip).header("content-encoding"), Some("gzip"));
    let off = serve(&chatty(Config::new().http(|http| http.compression(None))));
    assert_eq!(told(&off, 100_000, gzip).header("content-encoding"), None);
}
