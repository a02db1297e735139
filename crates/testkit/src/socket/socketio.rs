//! Packets of Socket.IO v5.

use std::collections::VecDeque;

use serde_json::Value;

use super::attachments;
use super::message::{ClientMessage, Heard};
use super::ws::Message;

pub(super) fn connect(namespace: &str, auth: &Value) -> Message {
    let auth = if auth.is_null() { String::new() } else { auth.to_string() };
    format!("0{}{auth}", prefix(namespace)).into()
}

pub(super) fn disconnect(namespace: &str) -> Message {
    format!("1{}", prefix(namespace)).into()
}

pub(super) fn event(said: &ClientMessage<'_>) -> Vec<Message> {
    let mut list = vec![Value::from(said.name)];
    list.extend(said.args.as_array().expect("arguments are an array").iter().cloned());
    packet('2', '5', said.namespace, said.ack, list.into())
}

pub(super) fn answer(namespace: &str, ack: u64, args: Value) -> Vec<Message> {
    packet('3', '6', namespace, Some(ack), args)
}

fn packet(text: char, binary: char, namespace: &str, ack: Option<u64>, mut list: Value) -> Vec<Message> {
    let mut attached = Vec::new();
    attachments::take(&mut list, &mut attached);
    let kind = if attached.is_empty() { text.to_string() } else { format!("{binary}{}-", attached.len()) };
    let ack = ack.map(|ack| ack.to_string()).unwrap_or_default();
    let mut messages = vec![format!("{kind}{}{ack}{list}", prefix(namespace)).into()];
    messages.append(&mut attached);
    messages
}

fn prefix(namespace: &str) -> String {
    if namespace == "/" { String::new() } else { format!("{namespace},") }
}

/// Takes a packet with its attachments once all have arrived.
pub(super) fn parse(messages: &mut VecDeque<Message>) -> Option<Heard> {
    let Some(Message::Text(text)) = messages.front() else { panic!("binary message without a packet") };
    let (kind, rest) = text.split_at(1);
    let (count, rest) = match kind {
        "5" | "6" => rest.split_once('-').expect("number of attachments"),
        _ => ("0", rest),
    };
    if messages.len() <= count.parse::<usize>().expect("number of attachments") {
        return None;
    }
    let (namespace, rest) = match rest.split_once(',') {
        Some((namespace, rest)) if namespace.starts_with('/') => (namespace.to_owned(), rest),
        _ if rest.starts_with('/') => (rest.to_owned(), ""),
        _ => ("/".to_owned(), rest),
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (ack, json) = rest.split_at(digits);
    let (kind, ack, mut args) =
        (kind.to_owned(), ack.parse().ok(), serde_json::from_str(json).unwrap_or_default());
    messages.pop_front();
    attachments::put_back(&mut args, messages);
    messages.clear();
    Some(match kind.as_str() {
        "0" => Heard::Joined {
            namespace,
            id: args["sid"].as_str().expect("confirmation has a socket id").to_owned(),
        },
        "1" => Heard::Left { namespace },
        "2" | "5" => {
            let list = args.as_array_mut().expect("arguments are an array");
            let name = list.remove(0).as_str().expect("event name is text").to_owned();
            Heard::Event { namespace, name, args, ack }
        }
        "3" | "6" => Heard::Answer { namespace, ack: ack.expect("ack number"), args },
        "4" => Heard::Refused { namespace, error: args },
        other => panic!("unknown packet type {other}"),
    })
}
