//! Values in messages of JSON text.

use bytes::Bytes;
use roomcast_msgpack::JsonValues;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::{EncodeError, MAX_DEPTH};

/// Appends a value as JSON, with attachments in the form of Node's `Buffer`.
pub(super) fn push_value(json: &mut String, value: &str, attachments: &[Bytes]) -> Result<(), EncodeError> {
    if JsonValues::new(value, attachments).depth() > MAX_DEPTH {
        return Err(EncodeError::TooDeep);
    }
    match serde_json::from_str::<Value>(value) {
        Ok(parsed) if !attachments.is_empty() => {
            let inlined = serde_json::to_string(&Inlined(&parsed, attachments));
            json.push_str(&inlined.map_err(|_| EncodeError::TooDeep)?);
        }
        _ => json.push_str(value),
    }
    Ok(())
}

/// Value whose placeholders are serialized as Node's `Buffer`, without a copy of the bytes.
struct Inlined<'a>(&'a Value, &'a [Bytes]);

impl Serialize for Inlined<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(value, attachments) = *self;
        match value {
            Value::Array(values) => {
                serializer.collect_seq(values.iter().map(|value| Self(value, attachments)))
            }
            Value::Object(entries) => match placeholder(entries).and_then(|num| attachments.get(num)) {
                Some(part) => Buffer { kind: "Buffer", data: part }.serialize(serializer),
                None => {
                    serializer.collect_map(entries.iter().map(|(key, value)| (key, Self(value, attachments))))
                }
            },
            scalar => scalar.serialize(serializer),
        }
    }
}

#[derive(Serialize)]
struct Buffer<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    data: &'a [u8],
}

fn placeholder(entries: &Map<String, Value>) -> Option<usize> {
    let is_placeholder = entries.get("_placeholder") == Some(&Value::Bool(true));
    entries.get("num").filter(|_| is_placeholder)?.as_u64()?.try_into().ok()
}
