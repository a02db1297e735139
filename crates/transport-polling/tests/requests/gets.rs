//! Pending GETs and their responses.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use bytes::Bytes;
use http::Method;
use roomcast_core::{ConnectionError, Delivery, Frame, FrameSink, Overflow, Pushed, Readiness, Transport};
use roomcast_testkit::ExchangeBuilder;
use roomcast_transport_polling::Polling;

use crate::client::{Client, URI, assert_refused};

#[test]
fn a_get_waits_for_what_is_pushed() {
    let (mut client, mut first) = Client::open();
    client.settle();
    assert!(first.now().is_none());
    client.push("0{}");
    let answered = client.step(&mut first);
    assert_eq!(answered.text(), (200, "0{}"));
    assert_eq!(answered.header("content-type"), "text/plain; charset=UTF-8");
    assert_eq!(answered.header("cache-control"), "no-store");
}

#[test]
fn what_waits_leaves_with_the_next_get_in_one_payload() {
    let mut client = Client::opened();
    client.push("4one");
    client.push(Bytes::from_static(&[1, 2, 3, 4]));
    let shared = Frame::of_all(vec!["451-[]".into(), Bytes::from_static(b"xyz").into()]);
    let _other = shared.clone();
    let _ = client.outbox.push_protocol(shared);
    client.settle();
    let mut next = client.get();
    let answered = client.step(&mut next);
    assert_eq!(answered.text(), (200, "4one\x1ebAQIDBA==\x1e451-[]\x1ebeHl6"));
    let mut next = client.get();
    client.settle();
    assert!(next.now().is_none(), "nothing is sent twice");
}

#[test]
fn a_payload_keeps_to_the_limit_but_takes_one_frame_of_any_size() {
    let (mut client, mut get) = Client::open_with(&Polling::new().max_payload(10), |sink| sink);
    for text in ["4aaaa", "4bbb", "4c", "4ddddddddddddd", "4e"] {
        client.push(text);
    }
    for expected in ["4aaaa\x1e4bbb", "4c", "4ddddddddddddd", "4e"] {
        assert_eq!(client.step(&mut get).text(), (200, expected));
        get = client.get();
    }
}

#[test]
fn the_limit_counts_separators() {
    for (limit, expected) in [(7, "4aa\x1e4bb"), (6, "4aa")] {
        let (mut client, mut get) = Client::open_with(&Polling::new().max_payload(limit), |sink| sink);
        client.push("4aa");
        client.push("4bb");
        assert_eq!(client.step(&mut get).text(), (200, expected));
    }
}

#[test]
fn volatile_frames_need_a_get_that_waits() {
    let mut client = Client::opened();
    client.settle();
    let volatile = |client: &Client| client.outbox.push("4v".into(), Delivery::Volatile, Overflow::Close);
    assert_eq!(volatile(&client), Pushed::Dropped);
    let mut get = client.get();
    client.settle();
    assert_eq!(volatile(&client), Pushed::Queued);
    assert_eq!(client.step(&mut get).text(), (200, "4v"));
}

#[test]
fn frames_of_other_transports_answer_no_get() {
    struct Foreign;
    let (mut client, mut get) = Client::open();
    let key = roomcast_core::WireKey::of::<Foreign>(0);
    let ping = || Frame::of_wire(key, Bytes::from_static(b"ping"));
    let _ = client.outbox.push_protocol(ping());
    client.settle();
    assert!(get.now().is_none());
    let _ = client.outbox.push_protocol(ping());
    client.push("4a");
    let _ = client.outbox.push_protocol(ping());
    client.push("4b");
    assert_eq!(client.step(&mut get).text(), (200, "4a\x1e4b"));
    assert_eq!(client.outbox.waiting().frames, 0);
}

#[test]
fn a_second_get_is_fatal_and_the_first_hears_the_last_words() {
    let mut client = Client::opened();
    let mut parked = client.get();
    client.settle();
    let (exchange, mut second) = ExchangeBuilder::get(URI).build();
    let refused = client.connection.accept(exchange).expect_err("one waits");
    assert_refused(&refused.rejection, 400, true);
    let _ = refused.exchange.respond.send(refused.rejection.response());
    assert_eq!(second.now().unwrap().text(), (400, ""));
    client.push("1");
    client.close();
    assert!(client.poll_closed().is_pending(), "the answer is on its way");
    assert_eq!(client.step(&mut parked).text(), (200, "1"));
    assert!(client.poll_closed().is_ready());
}

#[test]
fn get_given_up_says_the_client_leaves() {
    let mut client = Client::opened();
    let parked = client.get();
    client.settle();
    client.assert_idle();
    let before = client.woken();
    drop(parked);
    assert!(client.woken() > before, "the owner hears of it");
    client.assert_leaving();
    client.assert_idle();
    let (next, _) = ExchangeBuilder::get(URI).build();
    assert_refused(&client.refused(next), 400, false);
    client.post("4last");
    client.take_in();
    assert_eq!(client.received(), ["4last".into()]);
    client.assert_idle();
}

#[test]
fn frames_do_not_go_to_a_client_that_is_gone() {
    let mut client = Client::opened();
    let parked = client.get();
    client.settle();
    client.assert_idle();
    drop(parked);
    client.push("4kept");
    client.settle();
    assert_eq!(client.outbox.waiting().frames, 1);
    client.assert_leaving();
}

#[test]
fn a_get_that_comes_while_a_flusher_writes_is_not_overlooked() {
    let (sender, hooks) = std::sync::mpsc::sync_channel(1);
    let wrap = |sink| Box::new(Meanwhile { sink, hooks }) as Box<dyn FrameSink>;
    let (client, mut first) = Client::open_with(&Polling::new(), wrap);
    let Client { connection, outbox, mut flush, woken } = client;
    let connection = Arc::new(Mutex::new(connection));
    let (exchange, mut second) = ExchangeBuilder::get(URI).build();
    let waker = Waker::from(woken.clone());

    // The response was sent, the client sent its next GET, and the owner ran, all before the flusher returns.
    let owner = (connection.clone(), outbox.clone(), waker.clone());
    let meanwhile: Hook = Box::new(move || {
        owner.0.lock().unwrap().accept(exchange).expect("a GET in turn");
        assert!(owner.1.poll_owner(&mut Context::from_waker(&owner.2)).is_pending());
    });
    sender.send(meanwhile).expect("the sink waits for it");
    let _ = outbox.push_protocol("0{}".into());
    flush.write_all();
    assert_eq!(first.now().expect("answered").text(), (200, "0{}"));

    assert_eq!(woken.0.load(Ordering::Relaxed), 1, "the owner is asked to look again");
    assert!(outbox.poll_owner(&mut Context::from_waker(&waker)).is_pending());
    let _ = outbox.push_protocol("4a".into());
    flush.write_all();
    assert_eq!(second.now().expect("answered").text(), (200, "4a"));
}

#[test]
fn an_owner_that_answers_a_get_itself_is_asked_to_look_again() {
    let mut client = Client::opened();
    client.settle();
    client.push("4a");
    let mut get = client.get();
    let waker = Waker::from(client.woken.clone());
    let mut cx = Context::from_waker(&waker);
    let before = client.woken();
    assert!(client.outbox.poll_owner(&mut cx).is_pending());
    assert_eq!(get.now().expect("the owner wrote").text(), (200, "4a"));
    assert!(client.woken() > before, "the sink said it was blocked, so it has to wake");
    assert!(client.outbox.poll_drained(&mut cx).is_ready());
}

#[test]
fn a_session_begins_with_a_get() {
    for method in [Method::POST, Method::PUT, Method::OPTIONS] {
        let (exchange, _) = ExchangeBuilder::new(method, "/?EIO=4&transport=polling").build();
        let rejection = Polling::new().open(exchange).expect_err("no GET").rejection;
        assert_eq!((rejection.status.as_u16(), rejection.fatal), (400, false));
    }
}

type Hook = Box<dyn FnOnce() + Send>;

/// Runs a hook after a write, while the outbox still counts the sink as lent out.
#[derive(Debug)]
struct Meanwhile {
    sink: Box<dyn FrameSink>,
    hooks: std::sync::mpsc::Receiver<Hook>,
}

impl FrameSink for Meanwhile {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<Frame>,
    ) -> Result<Readiness, ConnectionError> {
        let outcome = self.sink.poll_send(cx, batch);
        self.hooks.try_iter().for_each(|hook| hook());
        outcome
    }
}
