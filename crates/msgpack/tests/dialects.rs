//! Values of Node's libraries, round trips, and invalid input.

use bytes::Bytes;
use proptest::prelude::*;
use roomcast_msgpack::{Extensions, JsonLimits, JsonValues, JsonWriter, ReadError, Reader, Writer};
use serde_json::{Value, json};

const LIMITS: JsonLimits = JsonLimits { bytes: 1 << 20, attachments: 100, extensions: Extensions::Refused };

fn read_within(bytes: &[u8], limits: JsonLimits) -> Result<(String, Vec<Bytes>), ReadError> {
    let message = Bytes::copy_from_slice(bytes);
    let mut reader = Reader::new(&message);
    let mut json = JsonWriter::new(limits);
    json.values(&mut reader, 1)?;
    if !reader.is_at_end() {
        return Err(ReadError::Malformed);
    }
    let (text, attachments) = json.finish()?;
    Ok((text.to_string(), attachments))
}

fn read(bytes: &[u8]) -> Result<String, ReadError> {
    read_within(bytes, LIMITS).map(|(text, _)| text)
}

fn written(json: &str, attachments: &[Bytes]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.values(&JsonValues::new(json, attachments));
    writer.finish()
}

#[test]
fn single_strings_are_written_like_others() {
    let strings = [
        r#""""#,
        r#""a""#,
        r#""\"""#,
        r#""\\""#,
        r#""é\u00e9\ud83d\ude00""#,
        r#""","b""#,
        r#""a", 1"#,
        r#""a" "#,
    ];
    for string in strings {
        for string in [string.to_owned(), format!("\"{}{}", "x".repeat(100), &string[1..])] {
            let values: Vec<Value> = serde_json::from_str(&format!("[{string}]")).expect("JSON");
            let list = written(&format!("[{string}]"), &[]);
            let single = JsonValues::new(&string, &[]);
            assert_eq!((single.len(), single.depth(), single.is_empty()), (values.len(), 0, false));
            // The list has a marker of one byte before the same values.
            assert_eq!(written(&string, &[]), list[1..], "{string}");
        }
    }
}

#[test]
fn reads_undefined_as_both_libraries_write_it() {
    // In a list both write nil; as the value of a key, notepack leaves it out and @msgpack/msgpack writes nil.
    assert_eq!(read(b"\x92\xc0\x01").as_deref(), Ok("[null,1]"));
    assert_eq!(read(b"\x81\xa1a\xc0").as_deref(), Ok(r#"{"a":null}"#));
    assert_eq!(read(b"\x92\xd4\0\0\x82\xa1a\xd4\0\0\xa1b\x01").as_deref(), Ok(r#"[null,{"b":1}]"#));
}

#[test]
fn reads_large_integers_of_both_libraries() {
    // 2^53 + 2 as uint64 by notepack, and as a float by @msgpack/msgpack.
    assert_eq!(read(b"\xcf\0\x20\0\0\0\0\0\x02").as_deref(), Ok("9007199254740994"));
    assert_eq!(read(b"\xcb\x43\x40\0\0\0\0\0\x01").as_deref(), Ok("9007199254740994.0"));
}

#[test]
fn reads_dates_of_both_libraries() {
    for bytes in [
        &b"\xd6\xff\x65\x53\xf1\0"[..],
        b"\xd7\xff\0\0\0\0\x65\x53\xf1\0",
        b"\xd7\0\0\0\x01\x8b\xcf\xe5\x68\0",
    ] {
        assert_eq!(read(bytes).as_deref(), Ok(r#""2023-11-14T22:13:20.000Z""#));
    }
}

#[test]
fn refuses_unknown_extensions_if_told() {
    assert_eq!(read(b"\xd4\x05\x01"), Err(ReadError::Extension));
    let pairs = JsonLimits { extensions: Extensions::Pairs, ..LIMITS };
    let (text, attachments) = read_within(b"\xd4\x05\x01", pairs).expect("read as a pair");
    assert_eq!(text, r#"[5,{"_placeholder":true,"num":0}]"#);
    assert_eq!(attachments, [&[1][..]]);
}

#[test]
fn names_the_exceeded_limit() {
    let limits = JsonLimits { bytes: 10, attachments: 1, ..LIMITS };
    let refused = |bytes: &[u8]| read_within(bytes, limits).expect_err("exceeds a limit");
    assert_eq!(refused(b"\xaf123456789012345"), ReadError::TooLarge { limit: 10 });
    let limits = JsonLimits { attachments: 1, ..LIMITS };
    let two = read_within(b"\x92\xc4\0\xc4\0", limits).expect_err("two attachments");
    assert_eq!(two, ReadError::TooManyAttachments { limit: 1 });
    assert_eq!(read(&[vec![0x91; 128], vec![0xc0]].concat()), Err(ReadError::TooDeep));
    assert_eq!(read(b"\xdd\xff\xff\xff\xff"), Err(ReadError::Malformed));
}

#[test]
fn writes_shortest_forms() {
    assert_eq!(
        written("0,127,128,255,256,65535,65536,4294967296,-1,-32,-33,-129,-32769,1.5", &[]),
        b"\0\x7f\xcc\x80\xcc\xff\xcd\x01\0\xcd\xff\xff\xce\0\x01\0\0\xcf\0\0\0\x01\0\0\0\0\xff\xe0\xd0\xdf\xd1\xff\x7f\xd2\xff\xff\x7f\xff\xcb\x3f\xf8\0\0\0\0\0\0"
    );
}

/// Generates JSON values, some long enough for each length encoding.
/// Characters that need an escape, or are not ASCII, at each position of a text that is checked in blocks.
#[test]
fn long_texts_keep_special_characters() {
    for len in [0, 1, 31, 32, 33, 63, 64, 65, 130] {
        let plain = "x".repeat(len);
        for special in ["", "\"", "\\", "\n", "\u{1}", "\u{7f}", "\u{e9}", "\\\"", "a\\"] {
            for at in 0..=len {
                let text = format!("{}{special}{}", &plain[..at], &plain[at..]);
                let json = serde_json::to_string(&[&text, "end"]).unwrap();
                let message = written(&json, &[]);
                assert_eq!(read(&message).as_deref(), Ok(&*json), "{special:?} at {at} of {len}");
                let bytes = Bytes::from(message);
                let mut reader = Reader::new(&bytes);
                assert_eq!(reader.array(), Ok(2));
                assert_eq!(reader.text().as_deref(), Ok(&*text));
                assert_eq!(reader.left(), "\u{a3}end".chars().count());
            }
        }
    }
    // Bytes that are not UTF-8.
    let mut message = vec![0xd9, 65];
    message.extend_from_slice(&[b'x'; 64]);
    message.push(0xff);
    assert_eq!(read(&message).unwrap(), format!("\"{}\u{fffd}\"", "x".repeat(64)));
}

fn value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![any::<i64>().prop_map(Value::from), any::<u64>().prop_map(Value::from)];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number,
        (-1e9..1e9_f64).prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        Just(Value::from("x".repeat(300))),
    ];
    leaf.prop_recursive(4, 60, 20, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            proptest::collection::btree_map(".{0,8}", inner, 0..20)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn values_survive_round_trip(value in value(), binary in proptest::collection::vec(any::<u8>(), 0..400)) {
        let both = json!([value, { "_placeholder": true, "num": 0 }]).to_string();
        let bytes = written(&both, &[Bytes::from(binary.clone())]);
        let (text, attachments) = read_within(&bytes, LIMITS).expect("written values are valid");
        let parsed = |json: &str| serde_json::from_str::<Value>(json).expect("JSON");
        prop_assert_eq!(parsed(&text), parsed(&both));
        prop_assert_eq!(&attachments[..], [&binary[..]]);
        for end in (0..bytes.len()).step_by(bytes.len() / 50 + 1) {
            prop_assert!(read(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn random_input_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(text) = read(&bytes) {
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
        }
    }
}
