//! The end of a connection, and rejected requests.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};

use http::Method;
use roomcast_core::{CloseReason, Frame, PushOutcome};
use roomcast_testkit::ExchangeBuilder;

use crate::client::{Client, URI, Woken, assert_refused};

#[test]
fn refuses_other_methods_without_harm() {
    let mut client = Client::opened();
    let mut parked = client.get();
    for method in [Method::PUT, Method::DELETE, Method::HEAD, Method::PATCH, Method::OPTIONS] {
        let (exchange, _) = ExchangeBuilder::new(method, URI).build();
        assert_refused(&client.refused(exchange), 500, false);
    }
    client.push("4a");
    assert_eq!(client.step(&mut parked).text(), (200, "4a"));
}

#[test]
fn close_packets_come_alone() {
    let mut client = Client::opened();
    client.push("41");
    client.push("42[]");
    assert_eq!(client.outbox.push_protocol(Frame::new("1").in_own_payload()), PushOutcome::Queued);
    client.close();
    client.settle();
    assert!(client.poll_closed().is_ready(), "no request is pending");
    let (post, _) = ExchangeBuilder::post(URI).chunk("4late").build();
    assert_refused(&client.refused(post), 400, false);
    let mut next = client.get();
    assert_eq!(client.step(&mut next).text(), (200, "41\x1e42[]"));
    let mut last = client.get();
    assert_eq!(client.step(&mut last).text(), (200, "1"));
    let waker = Waker::from(client.woken.clone());
    assert!(client.outbox.poll_drained(&mut Context::from_waker(&waker)).is_ready());
}

#[test]
fn wakes_closer_after_last_get() {
    let mut client = Client::opened();
    let mut get = client.get();
    client.settle();
    client.push("1");
    client.close();
    let closer = Arc::new(Woken::default());
    let waker = Waker::from(closer.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(client.connection.poll_closed(&mut cx).is_pending());
    client.flush.write_all();
    assert_eq!(get.now().expect("the flusher wrote").text(), (200, "1"));
    assert_eq!(closer.0.load(Ordering::Relaxed), 1);
    assert!(client.connection.poll_closed(&mut cx).is_ready());
}

#[test]
fn answers_pending_requests_on_drop() {
    let mut client = Client::opened();
    let mut parked = client.get();
    let (mut post, feed) = client.feed();
    client.settle();
    drop(client);
    assert_eq!(parked.now().unwrap().text(), (400, ""));
    assert_eq!(post.now().unwrap().text(), (400, ""));
    assert!(feed.is_dropped());

    let mut client = Client::opened();
    let mut post = client.post("41\x1e1");
    client.take_in();
    let mut next = client.post("42[]");
    drop(client);
    assert_eq!(post.now().unwrap().text(), (200, "ok"));
    assert_eq!(next.now().unwrap().text(), (400, ""));
}

#[test]
fn get_without_writer_ends_at_once() {
    let mut client = Client::opened();
    let mut parked = client.get();
    client.settle();
    client.close();
    assert!(client.poll_closed().is_pending(), "a sink may still answer");
    client.outbox.close(CloseReason::TransportError);
    assert!(client.poll_closed().is_ready());
    drop(client);
    assert_eq!(parked.now().unwrap().text(), (400, ""));
}

#[test]
fn stops_reading_payload_after_close() {
    let mut client = Client::opened();
    let many = "2\x1e".repeat(1_000);
    let (exchange, mut post) = ExchangeBuilder::post(URI).chunk(many).build();
    client.connection.accept(exchange).unwrap();
    client.take_in();
    assert_eq!(post.now().unwrap().text(), (200, "ok"));
    assert_eq!(client.received().len(), 256);
    client.close();
    client.assert_idle();
}

#[test]
fn debug_output_hides_secret_uri() {
    let mut client = Client::opened();
    let _parked = client.get();
    let _post = client.feed();
    assert!(!format!("{:?}", client.connection).contains("secret"));
}
