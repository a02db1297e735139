//! POSTs, valid and invalid.

use std::task::Poll;

use bytes::Bytes;
use roomcast_core::CloseReason;
use roomcast_testkit::ExchangeBuilder;
use roomcast_transport_polling::Polling;

use crate::client::{Client, URI, assert_refused};

#[test]
fn post_is_answered_before_its_messages() {
    let mut client = Client::opened();
    let mut post = client.post("4one\x1e4two\x1ebAQID");
    client.take_in();
    client.assert_idle();
    let before = client.woken();
    let answered = post.now().unwrap();
    assert_eq!(answered.text(), (200, "ok"));
    assert_eq!(answered.header("content-type"), "text/html");
    drop(answered);
    assert!(client.woken() > before, "the response was written");
    assert_eq!(client.received(), ["4one".into(), "4two".into(), Bytes::from_static(&[1, 2, 3]).into()]);
    client.assert_idle();
    client.post("4three");
    client.take_in();
    assert_eq!(client.received(), ["4three".into()]);
}

#[test]
fn reads_body_in_pieces() {
    let mut client = Client::opened();
    let (mut post, feed) = client.feed();
    client.assert_idle();
    for piece in ["4o", "ne\x1e", "", "4tw"] {
        let before = client.woken();
        feed.chunk(piece);
        assert!(client.woken() > before);
        assert_eq!(client.received(), []);
    }
    feed.chunk("o");
    feed.finish();
    client.take_in();
    assert_eq!(post.now().unwrap().text(), (200, "ok"));
    assert_eq!(client.received(), ["4one".into(), "4two".into()]);
}

#[test]
fn empty_body_is_empty_message() {
    let mut client = Client::opened();
    client.post("");
    client.take_in();
    assert_eq!(client.received(), ["".into()]);
}

#[test]
fn aborted_post_breaks_connection() {
    let mut client = Client::opened();
    let (exchange, _post) = ExchangeBuilder::post(URI).chunk("4half").aborted().build();
    client.connection.accept(exchange).unwrap();
    let (polled, messages) = client.recv();
    let Poll::Ready(Err(error)) = polled else { panic!("{polled:?}") };
    assert_eq!((error.reason(), messages), (CloseReason::TransportError, vec![]));

    let mut client = Client::opened();
    let (post, feed) = client.feed();
    feed.chunk("4half");
    assert_eq!(client.received(), []);
    client.assert_idle();
    let before = client.woken();
    drop(post);
    assert!(client.woken() > before);
    assert_eq!(client.broken(), CloseReason::TransportError);
}

#[test]
fn overlapping_posts_are_fatal() {
    let mut client = Client::opened();
    let (_first, _feed) = client.feed();
    let (second, _) = ExchangeBuilder::post(URI).chunk("4b").build();
    assert_refused(&client.refused(second), 400, true);

    let mut client = Client::opened();
    client.post("4a");
    let (second, _) = ExchangeBuilder::post(URI).chunk("4b").build();
    assert_refused(&client.refused(second), 400, true);
}

#[test]
fn next_post_waits_behind_answered_one() {
    let mut client = Client::opened();
    let mut first = client.post("4a");
    client.take_in();
    let mut second = client.post("4b");
    client.assert_idle();
    assert!(second.now().is_none(), "the first POST is current");
    let (third, _) = ExchangeBuilder::post(URI).chunk("4c").build();
    assert_refused(&client.refused(third), 400, true);
    assert_eq!(first.now().unwrap().text(), (200, "ok"));
    assert_eq!(client.received(), ["4a".into()]);
    client.take_in();
    assert_eq!(second.now().unwrap().text(), (200, "ok"));
    assert_eq!(client.received(), ["4b".into()]);
    client.assert_idle();
}

#[test]
fn closes_session_for_binary_body() {
    for content_type in ["application/octet-stream", "Application/Octet-Stream ; x=y"] {
        let mut client = Client::opened();
        let (post, _) = ExchangeBuilder::post(URI).header("content-type", content_type).chunk("4a").build();
        assert_refused(&client.refused(post), 400, true);
    }
    for content_type in ["text/plain;charset=UTF-8", "application/json", ""] {
        let mut client = Client::opened();
        let (post, _) = ExchangeBuilder::post(URI).header("content-type", content_type).chunk("4a").build();
        client.connection.accept(post).unwrap();
        client.take_in();
        assert_eq!(client.received(), ["4a".into()]);
    }
}

#[test]
fn closes_session_for_oversized_body() {
    let (mut client, mut get) = Client::open_with(&Polling::new().max_payload(1_000), |sink| sink);
    let (mut post, feed) = client.feed();
    for _ in 0..10 {
        feed.chunk(vec![b'4'; 100]);
    }
    assert_eq!(client.received(), [], "a body of the limit is allowed");
    assert!(post.now().is_none());
    feed.chunk("4");
    for _ in 0..100 {
        feed.chunk(vec![b'4'; 100]);
    }
    client.assert_idle();
    let before = client.woken();
    assert_eq!(post.now().unwrap().text(), (413, ""));
    assert!(client.woken() > before, "the response was written");
    assert_eq!(client.broken(), CloseReason::MessageTooBig);
    assert!(feed.is_dropped());
    assert_eq!(feed.read(), 1_001, "reading stops at the first byte over the limit");
    client.push("1");
    assert_eq!(client.step(&mut get).text(), (200, "1"), "the pending GET receives the close");
}

#[test]
fn keeps_messages_before_malformed_one() {
    for bad in ["4one\x1eb!\x1e4two", "4one\x1eb!"] {
        let mut client = Client::opened();
        let mut post = client.post(bad);
        client.take_in();
        assert_eq!(post.now().unwrap().text(), (200, "ok"));
        let (polled, messages) = client.recv();
        let Poll::Ready(Err(error)) = polled else { panic!("{polled:?}") };
        assert_eq!((error.reason(), messages), (CloseReason::ParseError, vec!["4one".into()]));
    }
}

#[test]
fn close_packet_precedes_get_abort() {
    let mut client = Client::opened();
    let parked = client.get();
    client.settle();
    client.post("1");
    drop(parked);
    client.take_in();
    assert_eq!(client.received(), ["1".into()], "the close packet arrives first");
}

#[test]
fn delivers_tiny_packets_in_portions() {
    let mut client = Client::opened();
    let packets = 500_000;
    let (exchange, mut post) = ExchangeBuilder::post(URI).chunk("2\x1e".repeat(packets)).build();
    client.connection.accept(exchange).unwrap();
    client.take_in();
    assert_eq!(post.now().unwrap().text(), (200, "ok"));
    let (mut total, mut polls) = (0, 0);
    loop {
        let (polled, messages) = client.recv();
        assert!(messages.len() <= 256, "{}", messages.len());
        total += messages.len();
        polls += 1;
        if polled.is_pending() {
            break;
        }
    }
    // An empty packet follows the last separator.
    assert_eq!(total, packets + 1);
    assert_eq!(polls, total.div_ceil(256) + 1, "each message is decoded once");
}

#[test]
fn reads_single_byte_chunks_in_batches() {
    let mut client = Client::opened();
    let (exchange, _, feed) =
        (0..100_000).fold(ExchangeBuilder::post(URI), |post, _| post.chunk(&b"4"[..])).build_with_feed();
    client.connection.accept(exchange).unwrap();
    let mut polls = 0;
    let messages = loop {
        polls += 1;
        let messages = client.received();
        if !messages.is_empty() {
            break messages;
        }
    };
    assert_eq!((messages.len(), messages[0].len(), feed.read()), (1, 100_000, 100_000));
    assert!(polls <= 100_000 / 64 + 2, "{polls}");
}
