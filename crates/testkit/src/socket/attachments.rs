//! Replacement of binary arguments by placeholders, and its reverse.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::message::{as_bytes, bytes};
use super::ws::Message;

/// Extracts binary values from arguments.
pub(super) fn take(value: &mut Value, attachments: &mut Vec<Message>) {
    if let Some(binary) = as_bytes(value) {
        *value = json!({ "_placeholder": true, "num": attachments.len() });
        attachments.push(Message::Binary(binary));
        return;
    }
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| take(value, attachments)),
        Value::Object(values) => values.values_mut().for_each(|value| take(value, attachments)),
        _ => {}
    }
}

/// Restores binary values from the `attachments` that follow the packet.
pub(super) fn put_back(value: &mut Value, attachments: &VecDeque<Message>) {
    if value.get("_placeholder") == Some(&json!(true)) {
        let num = value["num"].as_u64().expect("attachment number") as usize;
        let Some(Message::Binary(binary)) = attachments.get(num) else { panic!("missing attachment {num}") };
        *value = bytes(binary);
        return;
    }
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| put_back(value, attachments)),
        Value::Object(values) => values.values_mut().for_each(|value| put_back(value, attachments)),
        _ => {}
    }
}
