//! Pending GETs and their responses.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::Method;
use roomcast_core::{
    ConnectionError, Delivery, Frame, FrameSink, Overflow, PollSlotCell, PushOutcome, Readiness, Received,
    Responder, Transport,
};
use roomcast_testkit::ExchangeBuilder;
use roomcast_transport_polling::Polling;

use crate::client::{Client, URI, assert_refused};

#[test]
fn get_waits_for_pushed_frames() {
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
fn joins_queued_frames_into_payload() {
    let mut client = Client::opened();
    client.push("4one");
    client.push(Bytes::from_static(&[1, 2, 3, 4]));
    let shared = Frame::from_messages(vec!["451-[]".into(), Bytes::from_static(b"xyz").into()]);
    let _other = shared.clone();
    let _ = client.outbox.push_protocol(shared);
    client.settle();
    let mut next = client.get();
    let answered = client.step(&mut next);
    assert_eq!(answered.text(), (200, "4one\x1ebAQIDBA==\x1e451-[]\x1ebeHl6"));
    let mut next = client.get();
    client.settle();
    assert!(next.now().is_none(), "frames are sent once");
}

#[test]
fn payload_limit_admits_one_large_frame() {
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
fn payload_limit_counts_separators() {
    for (limit, expected) in [(7, "4aa\x1e4bb"), (6, "4aa")] {
        let (mut client, mut get) = Client::open_with(&Polling::new().max_payload(limit), |sink| sink);
        client.push("4aa");
        client.push("4bb");
        assert_eq!(client.step(&mut get).text(), (200, expected));
    }
}

#[test]
fn volatile_frames_need_waiting_get() {
    let mut client = Client::opened();
    client.settle();
    let volatile = |client: &Client| client.outbox.push("4v".into(), Delivery::Volatile, Overflow::Close);
    assert_eq!(volatile(&client), PushOutcome::Dropped);
    let mut get = client.get();
    client.settle();
    assert_eq!(volatile(&client), PushOutcome::Queued);
    assert_eq!(client.step(&mut get).text(), (200, "4v"));
}

#[test]
fn ignores_frames_of_other_transports() {
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
fn second_get_closes_the_session() {
    let mut client = Client::opened();
    let mut parked = client.get();
    client.settle();
    let (exchange, mut second) = ExchangeBuilder::get(URI).build();
    let refused = client.connection.accept(exchange).expect_err("a GET is pending");
    assert_refused(&refused.rejection, 400, true);
    let _ = refused.exchange.respond.send(refused.rejection.response());
    assert_eq!(second.now().unwrap().text(), (400, ""));
    client.push("1");
    client.close();
    assert!(client.poll_closed().is_pending(), "the response is not written yet");
    assert_eq!(client.step(&mut parked).text(), (200, "1"));
    assert!(client.poll_closed().is_ready());
}

#[test]
fn aborted_get_marks_client_leaving() {
    let mut client = Client::opened();
    let parked = client.get();
    client.settle();
    client.assert_idle();
    let before = client.woken();
    drop(parked);
    assert!(client.woken() > before, "the owner is woken");
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
fn sends_nothing_after_client_left() {
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
fn accepts_get_while_flusher_writes() {
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
        owner.0.lock().unwrap().accept(exchange).expect("the GET is accepted");
        assert!(owner.1.poll_owner(&mut Context::from_waker(&owner.2)).is_pending());
    });
    sender.send(meanwhile).expect("the sink waits for the hook");
    let _ = outbox.push_protocol("0{}".into());
    flush.write_all();
    assert_eq!(first.now().expect("answered").text(), (200, "0{}"));

    assert_eq!(woken.0.load(Ordering::Relaxed), 1, "the owner must poll again");
    assert!(outbox.poll_owner(&mut Context::from_waker(&waker)).is_pending());
    let _ = outbox.push_protocol("4a".into());
    flush.write_all();
    assert_eq!(second.now().expect("answered").text(), (200, "4a"));
}

#[test]
fn answer_wakes_owner_only_for_frames_left() {
    for (frames, wakes) in [(["4a", ""], false), (["4aaaaaaa", "4bbbbbbb"], true)] {
        let (mut client, mut first) = Client::open_with(&Polling::new().max_payload(10), |sink| sink);
        client.push("0{}");
        assert_eq!(client.step(&mut first).text(), (200, "0{}"));
        frames.into_iter().filter(|text| !text.is_empty()).for_each(|text| client.push(text));
        let mut get = client.get();
        let waker = Waker::from(client.woken.clone());
        let mut cx = Context::from_waker(&waker);
        let before = client.woken();
        assert!(client.outbox.poll_owner(&mut cx).is_pending());
        assert_eq!(get.now().expect("the owner wrote").text(), (200, frames[0]));
        // The owner watches a client that has left frames.
        assert_eq!(client.woken() > before, wakes, "{frames:?}");
        assert_eq!(client.outbox.poll_drained(&mut cx).is_ready(), !wakes);
    }
}

#[test]
fn rejects_session_without_get() {
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

#[test]
fn parks_repetitions_without_owner() {
    let mut client = Client::opened();
    let cell = PollSlotCell::new();
    let park = || {
        let (respond, response) = Responder::new();
        cell.park(respond).map(|()| response)
    };
    assert!(park().is_err(), "the cell is empty");
    let (get, mut first) = ExchangeBuilder::get(URI).extension(cell.clone()).build();
    client.connection.accept(get).expect("the GET is accepted");
    client.settle();
    assert!(client.recv().0.is_pending());
    assert!(park().is_err(), "a GET is pending");
    client.push("4one");
    assert_eq!(client.step(&mut first).text(), (200, "4one"));
    let mut second = park().expect("no GET is pending");
    client.outbox.unpark();
    client.push("4two");
    client.flush.write_all();
    assert!(second.try_recv().is_ok_and(|response| response.status() == 200));
    // Frames that are queued before are the answer.
    client.push("4three");
    client.flush.write_all();
    let mut third = park().expect("no GET is pending");
    client.outbox.unpark();
    assert!(third.try_recv().is_ok());
    // The owner learns of a client that disconnects.
    let wakes = client.woken.0.load(Ordering::Relaxed);
    drop(park().expect("no GET is pending"));
    assert_eq!(client.woken.0.load(Ordering::Relaxed), wakes + 1);
    assert!(matches!(client.recv().0, Poll::Ready(Ok(Received::Leaving))));
}

#[test]
fn closed_connection_parks_no_repetition() {
    let mut client = Client::opened();
    let cell = PollSlotCell::new();
    let (get, mut answer) = ExchangeBuilder::get(URI).extension(cell.clone()).build();
    client.connection.accept(get).expect("the GET is accepted");
    client.settle();
    assert!(client.recv().0.is_pending());
    client.push("4one");
    assert_eq!(client.step(&mut answer).text(), (200, "4one"));
    // The sink still exists, as after an upgrade.
    let Client { connection, outbox, .. } = client;
    drop(connection);
    assert!(cell.park(Responder::new().0).is_err());
    drop(outbox);
    assert!(cell.park(Responder::new().0).is_err());
}
