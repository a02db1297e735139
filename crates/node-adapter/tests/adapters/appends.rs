//! Entries on their way to the stream, over connections that are lost.

use roomcast_node_adapter::{AppendQueue, AppendResult, AppendState, EntryId};

type Queue = AppendQueue<u8>;

fn id(milliseconds: u64) -> EntryId {
    EntryId::new(milliseconds, 0)
}

/// Queue with a connection and entries 1, 2 and so on.
fn queue(entries: u64) -> Queue {
    let mut queue = Queue::new();
    (1..=entries).for_each(|number| push(&mut queue, number));
    assert!(queue.take_next().is_none(), "not connected");
    queue.handle_connect();
    queue
}

fn push(queue: &mut Queue, number: u64) {
    queue.push(1, number, vec![("number", number.to_string().into())]);
}

/// Sends all entries; returns their tokens and numbers.
fn send(queue: &mut Queue) -> Vec<(u64, String)> {
    std::iter::from_fn(|| queue.take_next()).map(|(token, fields)| (token, fields[0].1.to_string())).collect()
}

fn numbers(sent: &[(u64, String)]) -> Vec<&str> {
    sent.iter().map(|(_, number)| &**number).collect()
}

fn lose(queue: &mut Queue, sent: &[(u64, String)], was_sent: bool) {
    for (token, _) in sent {
        assert_eq!(queue.handle_result(*token, AppendResult::Lost { was_sent }), None);
    }
}

#[test]
fn answers_settle_entries_in_order() {
    let mut queue = queue(2);
    let mark = queue.mark();
    let sent = send(&mut queue);
    assert_eq!(numbers(&sent), ["1", "2"]);
    assert_eq!(queue.handle_result(sent[0].0, AppendResult::Stored(id(1))), None);
    assert!(!queue.has_settled(mark) && queue.bytes() > 0);
    let refused = queue.handle_result(sent[1].0, AppendResult::Refused("OOM".into()));
    assert_eq!(refused, Some((1, 2, "OOM".into())));
    assert!(queue.has_settled(mark) && queue.is_empty());
    assert_eq!((queue.bytes(), queue.refused(), queue.resolved()), (0, 1, (0, 0)));
}

#[test]
fn lost_answers_are_looked_up_in_stream() {
    let mut queue = queue(4);
    let sent = send(&mut queue);
    queue.handle_result(sent[0].0, AppendResult::Stored(id(1)));
    // The reader was faster than the answer.
    queue.handle_entry(1, 2);
    lose(&mut queue, &sent[1..], true);
    queue.handle_disconnect();
    push(&mut queue, 5);
    queue.handle_connect();
    assert_eq!((queue.state(), send(&mut queue)), (AppendState::Unknown, vec![]));
    queue.handle_end(Some(id(3)));
    queue.handle_position(id(2));
    assert_eq!(send(&mut queue), [], "entry 3 may be the last one");
    queue.handle_entry(1, 3);
    queue.handle_position(id(3));
    assert_eq!(numbers(&send(&mut queue)), ["4", "5"]);
    assert_eq!((queue.resolved(), queue.len()), ((2, 1), 2));
}

#[test]
fn unsent_entries_need_no_look() {
    let mut queue = queue(2);
    let sent = send(&mut queue);
    lose(&mut queue, &sent, false);
    queue.handle_disconnect();
    assert_eq!(send(&mut queue), []);
    queue.handle_connect();
    assert_eq!(numbers(&send(&mut queue)), ["1", "2"]);
    assert_eq!(queue.resolved(), (0, 0));
}

#[test]
fn second_outage_keeps_uncertainty() {
    let mut queue = queue(2);
    let sent = send(&mut queue);
    lose(&mut queue, &sent, true);
    for _ in 0..2 {
        queue.handle_disconnect();
        queue.handle_connect();
        assert_eq!(queue.state(), AppendState::Unknown);
        queue.handle_end(None);
    }
    // Redis lost its data: nothing came back.
    queue.handle_position(EntryId::ZERO);
    assert_eq!(numbers(&send(&mut queue)), ["1", "2"]);
    assert_eq!(queue.resolved(), (0, 2));
}

#[test]
fn next_entry_is_known_before_it_is_taken() {
    let mut queue = queue(2);
    for number in [1, 2] {
        assert_eq!(queue.peek(), Some((1, number)));
        assert!(queue.take_next().is_some());
    }
    assert_eq!(queue.peek(), None);
}

#[test]
fn namespaces_number_their_entries() {
    let mut queue = Queue::new();
    queue.push(1, 1, vec![]);
    queue.push(2, 1, vec![]);
    queue.handle_connect();
    let sent = [queue.take_next(), queue.take_next()];
    for (token, _) in sent.into_iter().flatten() {
        queue.handle_result(token, AppendResult::Lost { was_sent: true });
    }
    queue.handle_disconnect();
    queue.handle_connect();
    queue.handle_end(Some(id(1)));
    queue.handle_entry(1, 1);
    queue.handle_position(id(1));
    assert_eq!((queue.len(), queue.resolved()), (1, (1, 1)));
}
