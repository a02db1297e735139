//! Arguments: splitting, validation, and serde in both directions.

use std::collections::BTreeMap;

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{Args, IntoArgs as _};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Arguments match serde_json's parse of the array, regardless of the type that they are read as.
///
/// The first line is the list, the others are attachments.
pub fn args(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Some(Ok(list)) = lines.next().map(str::from_utf8) else { return };
    let attachments: Vec<Bytes> = lines.map(Bytes::copy_from_slice).collect();

    // Input that is not JSON is split at some position, without a panic.
    let unchecked = Args::from_validated(list.into(), attachments.clone());
    assert!(unchecked.iter().count() <= list.len());
    let _ = unchecked.parse::<(Value, Bytes, Option<Shape>)>();
    let _ = unchecked.check_placeholders();

    let array = format!("[{list}]");
    let elements: Option<Vec<&RawValue>> = serde_json::from_str(&array).ok();
    let args = Args::from_json(ByteString::from(list), attachments).ok();
    assert_eq!(args.is_some(), elements.is_some(), "only one parser accepts the list");
    let (Some(args), Some(elements)) = (args, elements) else { return };

    let cut: Vec<&str> = args.iter().collect();
    assert_eq!(cut, elements.iter().map(|raw| raw.get()).collect::<Vec<_>>());
    assert_eq!((args.len(), args.is_empty()), (cut.len(), cut.is_empty()));
    for (index, element) in elements.iter().enumerate() {
        let ours = args.get::<Value>(index).ok();
        assert_eq!(ours, serde_json::from_str(element.get()).ok(), "argument {index}");
        if let Some(value) = ours {
            comes_back(value);
        }
        let _ = args.get::<Shape>(index);
        let _ = args.get::<Flat>(index);
        let _ = args.get::<Untagged>(index);
    }
    yields_no_more_than_came(&args);
    let more = args.with_last(" true ").expect("true is JSON");
    assert_eq!((more.len(), more.get(args.len())), (args.len() + 1, Ok(true)));
}

fn yields_no_more_than_came(args: &Args) {
    if let Ok(all) = args.parse::<Vec<Option<Bytes>>>() {
        let bytes: usize = all.iter().flatten().map(Bytes::len).sum();
        assert!(bytes <= args.byte_len());
    }
    if let Ok(lists) = args.parse::<Vec<Vec<Bytes>>>() {
        let bytes: usize = lists.iter().flatten().map(Bytes::len).sum();
        assert!(bytes <= args.byte_len());
    }
}

fn comes_back(value: Value) {
    let written = (&value,).into_args().expect("JSON values are serializable");
    assert_eq!(written.len(), 1);
    let read: Value = written.get(0).expect("written values can be read");
    // serde_json rounds the last digit of some numbers each time it reads them.
    assert!(read == value || has_fractions(&value), "{value} is read as {read}");
}

fn has_fractions(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_fractions),
        Value::Object(members) => members.values().any(has_fractions),
        _ => false,
    }
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only its deserialization matters")]
enum Shape {
    Unit,
    New(Bytes),
    Tuple(Bytes, Option<u64>),
    Struct { image: Bytes, name: Option<String>, list: Vec<Bytes> },
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only its deserialization matters")]
struct Flat {
    a: Option<f64>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its deserialization matters")]
enum Untagged {
    Number(i64),
    Text(String),
    Map(BTreeMap<String, Untagged>),
    List(Vec<Untagged>),
}
