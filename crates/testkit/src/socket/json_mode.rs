//! Messages of `roomcast.json`.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::attachments;
use super::message::{ClientMessage, Heard};
use super::ws::Message;

pub(super) const SUBPROTOCOL: &str = "roomcast.json";

pub(super) fn event(said: &ClientMessage<'_>) -> Vec<Message> {
    let header = said.ack.map_or_else(|| json!({}), |ack| json!({ "ack": ack }));
    message(header, Some(said.name), &said.args)
}

pub(super) fn answer(ack: u64, args: Value) -> Vec<Message> {
    message(json!({ "re": ack }), None, &args)
}

fn message(mut header: Value, name: Option<&str>, args: &Value) -> Vec<Message> {
    let mut list: Vec<Value> = name.into_iter().map(Value::from).collect();
    list.extend(args.as_array().expect("arguments are an array").iter().cloned());
    let (mut list, mut attached) = (Value::from(list), Vec::new());
    attachments::take(&mut list, &mut attached);
    if !attached.is_empty() {
        header["binary"] = attached.len().into();
    }
    if header != json!({}) {
        list.as_array_mut().expect("packet is an array").insert(0, header);
    }
    let mut messages = vec![list.to_string().into()];
    messages.append(&mut attached);
    messages
}

/// Takes a message with its binary values once all have arrived.
pub(super) fn parse(messages: &mut VecDeque<Message>) -> Option<Heard> {
    let Some(Message::Text(text)) = messages.front() else { panic!("binary message without a packet") };
    let mut list: Vec<Value> = serde_json::from_str(text).expect("packet is an array");
    let header = if list[0].is_object() { list.remove(0) } else { json!({}) };
    if messages.len() <= header["binary"].as_u64().unwrap_or(0) as usize {
        return None;
    }
    messages.pop_front();
    let mut args = Value::from(list);
    attachments::put_back(&mut args, messages);
    messages.clear();
    let namespace = "/".to_owned();
    if let Some(id) = header["sid"].as_str() {
        return Some(Heard::Joined { namespace, id: id.to_owned() });
    }
    if header["error"].is_object() {
        return Some(Heard::Refused { namespace, error: header["error"].clone() });
    }
    if let Some(ack) = header["re"].as_u64() {
        return Some(Heard::Answer { namespace, ack, args });
    }
    let name = args.as_array_mut().expect("arguments are an array").remove(0);
    let name = name.as_str().expect("event name is text").to_owned();
    Some(Heard::Event { namespace, name, args, ack: header["ack"].as_u64() })
}
