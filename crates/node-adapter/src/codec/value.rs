//! Values in messages of JSON text.

use bytes::Bytes;
use roomcast_msgpack::JsonValues;
use serde_json::{Value, json};

use super::{EncodeError, MAX_DEPTH};

/// Appends a value as JSON, with attachments in the form of Node's `Buffer`.
pub(super) fn push_value(json: &mut String, value: &str, attachments: &[Bytes]) -> Result<(), EncodeError> {
    if JsonValues::new(value, attachments).depth() > MAX_DEPTH {
        return Err(EncodeError::TooDeep);
    }
    match serde_json::from_str::<Value>(value) {
        Ok(mut inlined) if !attachments.is_empty() => {
            inline(&mut inlined, attachments);
            json.push_str(&inlined.to_string());
        }
        _ => json.push_str(value),
    }
    Ok(())
}

/// Replaces placeholders by the JSON form of Node's `Buffer`.
fn inline(value: &mut Value, attachments: &[Bytes]) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| inline(value, attachments)),
        Value::Object(entries) => {
            let number = entries.get("num").and_then(Value::as_u64).and_then(|num| usize::try_from(num).ok());
            let is_placeholder = entries.get("_placeholder") == Some(&Value::Bool(true));
            match number.filter(|_| is_placeholder).and_then(|num| attachments.get(num)) {
                Some(part) => *value = json!({ "type": "Buffer", "data": part.as_ref() }),
                None => entries.values_mut().for_each(|value| inline(value, attachments)),
            }
        }
        _ => {}
    }
}
