//! Arguments as a whole: round trips, oracles, hostile text.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use super::*;

fn args<T: Serialize>(value: &T) -> Args {
    value.into_args().unwrap()
}

fn with_attachment(list: &str) -> Args {
    Args::from_json(list.to_owned().into(), vec![Bytes::from_static(b"bin")]).unwrap()
}

/// Every way in which serde nests values, with binary at random places.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Unit,
    Text(String),
    Binary(Bytes),
    Buffer(#[serde(with = "serde_bytes")] Vec<u8>),
    Pair(Wide, Bytes),
    Record { id: i64, body: Option<Bytes>, inner: Box<Self> },
    List(Vec<Self>),
    Map(BTreeMap<String, Self>),
    Numbered(BTreeMap<u16, Self>),
    Wrapped(Newtype),
    Maybe(Option<Box<Self>>),
    Mixed((bool, Bytes, f64), [Bytes; 2]),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(Bytes);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wide {
    u: u128,
    i: i128,
    c: char,
    nothing: (),
}

fn binary() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..12).prop_map(Bytes::from)
}

fn wide() -> impl Strategy<Value = Wide> {
    (any::<u128>(), any::<i128>(), any::<char>()).prop_map(|(u, i, c)| Wide { u, i, c, nothing: () })
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Unit),
        any::<String>().prop_map(Tree::Text),
        binary().prop_map(Tree::Binary),
        binary().prop_map(|bytes| Tree::Buffer(bytes.to_vec())),
        (wide(), binary()).prop_map(|(wide, bytes)| Tree::Pair(wide, bytes)),
        binary().prop_map(|bytes| Tree::Wrapped(Newtype(bytes))),
        (any::<bool>(), binary(), any::<i32>(), [binary(), binary()])
            .prop_map(|(flag, bytes, number, two)| Tree::Mixed((flag, bytes, number.into()), two)),
    ];
    leaf.prop_recursive(5, 32, 4, |tree| {
        prop_oneof![
            (any::<i64>(), prop::option::of(binary()), tree.clone())
                .prop_map(|(id, body, inner)| Tree::Record { id, body, inner: Box::new(inner) }),
            prop::collection::vec(tree.clone(), 0..4).prop_map(Tree::List),
            prop::collection::btree_map(any::<String>(), tree.clone(), 0..4).prop_map(Tree::Map),
            prop::collection::btree_map(any::<u16>(), tree.clone(), 0..4).prop_map(Tree::Numbered),
            prop::option::of(tree.prop_map(Box::new)).prop_map(Tree::Maybe),
        ]
    })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        r#"[\\",\[\]{}: ]{0,8}"#.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |value| {
        prop_oneof![
            prop::collection::vec(value.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), value, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn written_values_read_back(first in tree(), second in tree()) {
        let args = (&first, 1, &second).into_args().unwrap();
        prop_assert_eq!(args.len(), 3);
        prop_assert_eq!(args.check_placeholders(), Ok(()));
        prop_assert_eq!(args.parse::<(Tree, u8, Tree)>(), Ok((first, 1, second.clone())));
        prop_assert_eq!(args.get::<Tree>(2), Ok(second));
    }

    #[test]
    fn splits_lists_like_serde_json(values in prop::collection::vec(value(), 0..6), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&values) } else { serde_json::to_string(&values) };
        let text = text.unwrap();
        let args = Args::from_json(text[1..text.len() - 1].to_owned().into(), vec![]).unwrap();
        let split: Vec<Value> = args.iter().map(|json| serde_json::from_str(json).unwrap()).collect();
        let whole: Vec<Value> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(args.len(), whole.len());
        prop_assert_eq!(&split, &whole);
        prop_assert_eq!(args.parse::<Vec<Value>>().unwrap(), whole);
        prop_assert!(args.iter().all(|json| json == split::trim(json)));
    }

    #[test]
    fn validation_agrees_with_serde_json(list in r#"([\[\]{},:"\\ntrue01.eE+\-]|null|true|"a"|1){0,8}"#) {
        let wrapped = format!("[{list}]");
        // Raw values accept numbers beyond f64 and unpaired surrogates on both sides.
        let oracle = serde_json::from_str::<Vec<&RawValue>>(&wrapped);
        let args = Args::from_json(list.into(), vec![]);
        prop_assert_eq!(oracle.is_ok(), args.is_ok());
        if let (Ok(oracle), Ok(args)) = (oracle, args) {
            let expected: Vec<&str> = oracle.iter().map(|raw| raw.get()).collect();
            prop_assert_eq!(args.iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn random_bytes_never_panic(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"[]{},:\"\\ 1"[..])], 0..64),
        attachments in prop::collection::vec(binary(), 0..3),
    ) {
        let text: ByteString = String::from_utf8_lossy(&bytes).into_owned().into();
        let _ = Args::from_json(text.clone(), attachments.clone());
        exercise(&Args::from_validated(text, attachments));
    }

    #[test]
    fn random_placeholders_never_panic(
        parts in prop::collection::vec(prop::sample::select(&[
            "{", "}", "[", "]", ",", ":", "\"_placeholder\"", "true", "\"num\"", "0", "1", "-1", "{\"_placeholder\":true,\"num\":",
        ][..]), 0..16),
        attachments in prop::collection::vec(binary(), 1..3),
    ) {
        exercise(&Args::from_validated(parts.concat().into(), attachments));
    }

    #[test]
    fn checked_placeholders_resolve(
        nums in prop::collection::vec(0_u64..4, 0..4),
        attachments in prop::collection::vec(binary(), 1..4),
    ) {
        let list: Vec<_> = nums.iter().map(|num| json!({"_placeholder": true, "num": num}).to_string()).collect();
        let args = Args::from_json(list.join(",").into(), attachments).unwrap();
        prop_assert_eq!(args.check_placeholders().is_ok(), args.parse::<Vec<Bytes>>().is_ok());
    }
}

/// Calls every function that reads text.
fn exercise(args: &Args) {
    assert_eq!(args.iter().count(), args.len());
    let _ = args.check_placeholders();
    let _ = args.parse::<Vec<Value>>();
    let _ = args.parse::<(Tree, Bytes, Option<Newtype>)>();
    let _ = args.with_last("1");
    let mut reader = ArgsReader::new(args);
    while !reader.is_at_end() {
        let _ = reader.next::<Bytes>();
        let _ = reader.rest();
    }
}

#[test]
fn shares_memory_with_sliced_packet() {
    let packet = ByteString::from(r#"42["name",1,"two"]"#.to_owned());
    let args = Args::from_validated(packet.slice_ref(&packet[10..packet.len() - 1]), vec![]);
    assert_eq!(args.json(), r#"1,"two""#);
    assert_eq!(args.json().as_ptr(), packet[10..].as_ptr());
    assert_eq!(args.clone().json().as_ptr(), packet[10..].as_ptr());
    let checked = Args::from_json(args.list().clone(), vec![]).unwrap();
    assert_eq!(checked.json().as_ptr(), packet[10..].as_ptr());
}

#[test]
fn blank_text_means_no_arguments() {
    for args in [Args::empty(), Args::default(), Args::from_json(" \n".into(), vec![]).unwrap()] {
        assert!(args.is_empty());
        assert_eq!((args.len(), args.json(), args.byte_len()), (0, "", 0));
        assert!(args.attachments().is_empty());
        assert_eq!(args.get::<u8>(0), Err(ArgsError::Missing { position: 1 }));
    }
    assert!(size_of::<Args>() <= 2 * size_of::<ByteString>());
}

#[test]
fn appends_one_more_argument() {
    let offset = Args::empty().with_last(" \"offset\"\n").unwrap();
    assert_eq!(offset.json(), r#""offset""#);
    let binary = (1, Bytes::from_static(b"x")).into_args().unwrap();
    let more = binary.with_last("\"offset\"").unwrap();
    assert_eq!(more.json(), r#"1,{"_placeholder":true,"num":0},"offset""#);
    assert_eq!(more.attachments().as_ptr(), binary.attachments().as_ptr());
    for invalid in ["", "1,2", "\"open", "]"] {
        assert_eq!(binary.with_last(invalid).unwrap_err().position(), 3, "{invalid}");
    }
}

#[test]
fn reads_bytes_from_every_form() {
    for list in [
        r#"{"_placeholder":true,"num":0}"#,
        r#" { "num" : 0 , "more" : [{}] , "_placeholder" : true } "#,
        r#"{"\u005fplaceholder":true,"num":0}"#,
        r#""bin""#,
        r#""\u0062in""#,
        "[98,105,110]",
    ] {
        let args = with_attachment(list);
        assert_eq!(args.get::<Bytes>(0).unwrap(), "bin", "{list}");
        assert_eq!(args.get::<serde_bytes::ByteBuf>(0).unwrap(), &b"bin"[..], "{list}");
        assert_eq!(args.get::<Option<Newtype>>(0).unwrap(), Some(Newtype("bin".into())), "{list}");
    }
}

#[test]
fn rejects_invalid_placeholders_as_bytes() {
    for (list, message) in [
        (r#"{"_placeholder":true,"num":1}"#, "placeholder 1 is out of range, there are 1"),
        (r#"{"_placeholder":true,"num":-1}"#, "invalid value: integer `-1`, expected u64"),
        (r#"{"_placeholder":true,"num":"0"}"#, "invalid type: string \"0\", expected u64"),
        (r#"{"_placeholder":1,"num":0}"#, "invalid type: integer `1`, expected a boolean"),
        (r#"{"_placeholder":false,"num":0}"#, "invalid type: map, expected byte array"),
        (r#"{"_placeholder":true}"#, "invalid type: map, expected byte array"),
        (r#"{"num":0}"#, "invalid type: map, expected byte array"),
        ("1", "invalid type: integer `1`, expected byte array"),
        ("null", "invalid type: null, expected byte array"),
        ("[256]", "invalid value: integer `256`, expected u8"),
    ] {
        let error = with_attachment(list).get::<Bytes>(0).unwrap_err().to_string();
        assert!(error.starts_with("argument 1 does not fit") && error.contains(message), "{list}: {error}");
    }
}

#[test]
fn reads_large_attachment_only_once() {
    let placeholder = r#"{"_placeholder":true,"num":0}"#;
    let args = Args::from_json(
        format!("[{placeholder},{placeholder}]").into(),
        vec![Bytes::from(vec![0; 1000]), Bytes::from_static(b"x")],
    )
    .unwrap();
    assert!(args.get::<Vec<Bytes>>(0).unwrap_err().to_string().contains("more than once"));
    assert!(args.check_placeholders().is_err());
}

#[test]
fn keeps_placeholder_object_without_attachments() {
    let list = r#"{"_placeholder":true,"num":0}"#;
    let args = Args::from_json(list.into(), vec![]).unwrap();
    assert_eq!(args.get::<Value>(0), Ok(json!({"_placeholder": true, "num": 0})));
    assert!(args.get::<Bytes>(0).is_err());
}

#[test]
fn untyped_reads_see_the_placeholder() {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u8),
        Object(BTreeMap<String, Value>),
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Outer {
        bytes: Bytes,
        #[serde(flatten)]
        more: BTreeMap<String, Value>,
    }

    let placeholder = json!({"_placeholder": true, "num": 0});
    let args = with_attachment(r#"{"_placeholder":true,"num":0},7"#);
    assert_eq!(args.get::<Value>(0), Ok(placeholder.clone()));
    assert_eq!(args.get::<Box<RawValue>>(0).unwrap().get(), r#"{"_placeholder":true,"num":0}"#);
    let fields = BTreeMap::from([("_placeholder".into(), json!(true)), ("num".into(), json!(0))]);
    assert_eq!(args.get::<Either>(0), Ok(Either::Object(fields)));
    assert_eq!(args.get::<Either>(1), Ok(Either::Number(7)));

    // A named field next to a flattened one is not buffered, but is read through the map of the buffer.
    let args = with_attachment(r#"{"bytes":{"_placeholder":true,"num":0},"more":[1]}"#);
    let outer = args.get::<Outer>(0);
    assert_eq!(outer, Ok(Outer { bytes: "bin".into(), more: BTreeMap::from([("more".into(), json!([1]))]) }));
}

#[test]
fn buffered_enums_cannot_read_bytes_back() {
    #[derive(Debug, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        #[expect(dead_code, reason = "never constructed")]
        File { body: Bytes },
    }
    let args = with_attachment(r#"{"kind":"File","body":{"_placeholder":true,"num":0}}"#);
    assert!(
        args.get::<Tagged>(0).unwrap_err().to_string().contains("invalid type: map, expected byte array")
    );
}

#[test]
fn keeps_raw_values_beside_attachments() {
    #[derive(Deserialize)]
    struct Outer<'a> {
        #[serde(borrow)]
        raw: &'a RawValue,
        bytes: Option<Bytes>,
    }
    let plain = Args::from_json(r#"{"raw":[1, 2],"bytes":null}"#.into(), vec![]).unwrap();
    let outer = plain.get::<Outer<'_>>(0).unwrap();
    assert_eq!((outer.raw.get(), outer.bytes), ("[1, 2]", None));
    let binary = with_attachment(r#"{"raw":{"a": 1},"bytes":{"_placeholder":true,"num":0}}"#);
    let outer = binary.get::<Outer<'_>>(0).unwrap();
    assert_eq!((outer.raw.get(), outer.bytes), (r#"{"a": 1}"#, Some("bin".into())));
}

#[test]
fn numbers_keep_their_precision_beside_attachments() {
    let list = format!("{},{},{},0.1,1e400", u128::MAX, i128::MIN, u64::MAX);
    for attachments in [vec![], vec![Bytes::from_static(b"bin")]] {
        let args = Args::from_json(list.clone().into(), attachments).unwrap();
        assert_eq!(args.parse::<(u128, i128, u64, f64)>(), Ok((u128::MAX, i128::MIN, u64::MAX, 0.1)));
        assert_eq!(args.get::<Value>(2), Ok(json!(u64::MAX)));
        assert!(args.get::<f64>(4).is_err(), "beyond f64, and no panic");
    }
}

#[test]
fn limits_nesting_like_serde_json() {
    #[derive(Debug, Deserialize)]
    #[serde(transparent)]
    struct Nested(#[expect(dead_code, reason = "only its depth matters")] Vec<Self>);

    #[derive(Debug, Deserialize)]
    struct Chain {
        #[expect(dead_code, reason = "only its depth matters")]
        next: Option<Box<Self>>,
    }

    fn limited<T>(result: Result<T, ArgsError>) {
        let Err(error) = result else { panic!("deeper than the limit") };
        assert!(error.to_string().contains("recursion limit exceeded"), "{error}");
    }

    for attachments in [vec![], vec![Bytes::from_static(b"bin")]] {
        let brackets = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let deep = Args::from_json(brackets(100_000).into(), attachments.clone()).unwrap();
        limited(deep.get::<Nested>(0));
        limited(deep.get::<Value>(0));
        assert!(deep.get::<Bytes>(0).is_err());
        let shallow = Args::from_json(brackets(120).into(), attachments.clone()).unwrap();
        assert!(shallow.get::<Nested>(0).is_ok());

        let chain = |depth: usize| format!("{}null{}", "{\"next\":".repeat(depth), "}".repeat(depth));
        let deep = Args::from_json(chain(100_000).into(), attachments.clone()).unwrap();
        limited(deep.get::<Chain>(0));
        let shallow = Args::from_json(chain(120).into(), attachments).unwrap();
        assert!(shallow.get::<Chain>(0).is_ok());
    }
}

#[test]
fn integers_may_be_written_as_floats() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Move {
        x: i64,
        y: Option<u8>,
        path: Vec<u32>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Turn { by: i16, exact: f64 },
    }

    for attachments in [vec![], vec![Bytes::from_static(b"bin")]] {
        let args = |list: &str| Args::from_json(list.to_owned().into(), attachments.clone()).unwrap();
        let numbers = args("1.0,1e3,-2.0E+1,0.0,-0.0,1.8e19,255.0");
        assert_eq!(
            numbers.parse::<(u32, u16, i8, u64, i32, u64, u8)>(),
            Ok((1, 1000, -20, 0, 0, 18_000_000_000_000_000_000, 255))
        );
        assert_eq!(
            args(r#"{"x":-1.0,"y":2e0,"path":[1,2.0,3e1]}"#).get(0),
            Ok(Move { x: -1, y: Some(2), path: vec![1, 2, 30] })
        );
        let turn = Tagged::Turn { by: 90, exact: 1.0 };
        assert_eq!(args(r#"{"kind":"Turn","by":9e1,"exact":1.0}"#).get(0), Ok(turn));
        for wrong in ["1.5", "1e-1", "-1.0", "1e99", "256.0", "\"1.0\""] {
            let error = args(wrong).get::<u8>(0).unwrap_err();
            assert!(matches!(error, ArgsError::Mismatch { .. }), "{wrong}: {error}");
        }
        assert_eq!(args("1.0").get::<f64>(0), Ok(1.0));
        assert_eq!(args("1.0").get::<Value>(0), Ok(json!(1.0)), "untyped numbers stay unchanged");
        let mut reader = ArgsReader::new(&numbers);
        assert_eq!(reader.next_seed(std::marker::PhantomData::<u32>), Ok(1), "seeds too");
    }
}

#[test]
fn second_reading_has_whole_budget() {
    let args =
        Args::from_json(r#"[{"_placeholder":true,"num":0},1.0]"#.into(), vec![Bytes::from_static(b"large")]);
    let args = args.unwrap();
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum Count {
        Whole(u32),
    }
    assert_eq!(args.get(0), Ok((Bytes::from_static(b"large"), Count::Whole(1))));
}

#[test]
fn debug_text_does_not_show_binary() {
    let args = (1, Bytes::from(vec![0; 1000])).into_args().unwrap();
    assert_eq!(
        format!("{args:?}"),
        r#"Args { json: "1,{\"_placeholder\":true,\"num\":0}", attachment_lengths: [1000] }"#,
    );
}

#[test]
fn writes_reference_as_one_argument() {
    assert_eq!(args(&vec![1, 2]).len(), 1);
    assert_eq!((vec![1, 2], 3).into_args().unwrap().len(), 2);
}
