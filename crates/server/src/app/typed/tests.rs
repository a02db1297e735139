use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct One(u32);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Several(u32, Option<String>, Bytes);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Transparent {
    list: Vec<u32>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Named {
    number: u32,
    data: Bytes,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Flat {
    #[serde(default)]
    is_set: bool,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

macro_rules! name {
    ($($name:ident)*) => {$(
        impl Event for $name {
            const NAME: &'static str = stringify!($name);
            type Answer = NoAnswer;
        }
    )*};
}

name! { Unit One Several Transparent Named Flat }

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Set {
    Unit,
    OneThing(u32),
    Several(u32, String, Bytes),
    Pair((u32, u32)),
    Named {
        number: u32,
        data: Bytes,
    },
    #[serde(rename = "with \"quotes\" ü", alias = "alias")]
    Quoted(Option<bool>),
    Empty(),
}

impl EventSet for Set {}

/// Writes an event, compares it, and reads it back.
fn held<M, E: Schema<M> + Emitted<M> + fmt::Debug + PartialEq>(event: &E, name: &str, json: &str) {
    let (written, args) = event.write().expect("it serialises");
    assert_eq!((written, args.json()), (name, json));
    assert_eq!(&E::read(written, &args).expect("it reads back"), event);
}

fn data() -> Bytes {
    Bytes::from_static(b"data")
}

const PLACEHOLDER: &str = r#"{"_placeholder":true,"num":0}"#;

#[test]
fn writes_fields_in_order() {
    held(&Unit, "Unit", "");
    held(&One(1), "One", "1");
    held(&Several(1, None, data()), "Several", &format!("1,null,{PLACEHOLDER}"));
    held(&Transparent { list: vec![1, 2] }, "Transparent", "[1,2]");
    held(&Named { number: 1, data: data() }, "Named", &format!(r#"{{"number":1,"data":{PLACEHOLDER}}}"#));
    let rest = BTreeMap::from([("more".to_owned(), json!([1]))]);
    held(&Flat { is_set: true, rest }, "Flat", r#"{"isSet":true,"more":[1]}"#);
}

#[test]
fn maps_variant_name_to_event() {
    held(&Set::Unit, "unit", "");
    held(&Set::OneThing(1), "one-thing", "1");
    held(&Set::Several(1, "two".into(), data()), "several", &format!(r#"1,"two",{PLACEHOLDER}"#));
    held(&Set::Pair((1, 2)), "pair", "[1,2]");
    held(
        &Set::Named { number: 1, data: data() },
        "named",
        &format!(r#"{{"number":1,"data":{PLACEHOLDER}}}"#),
    );
    held(&Set::Quoted(None), "with \"quotes\" ü", "null");
    held(&Set::Empty(), "empty", "");
    let mut names = Set::names();
    names.sort_unstable();
    assert_eq!(
        names,
        ["alias", "empty", "named", "one-thing", "pair", "several", "unit", "with \"quotes\" ü"]
    );
    let aliased = Set::read("alias", &(true,).into_args().expect("a list"));
    assert_eq!(aliased, Ok(Set::Quoted(Some(true))));
}

#[test]
fn reports_position_of_mismatched_argument() {
    let args = (1, "two", 3).into_args().expect("a list");
    let error = Several::read("Several", &args).expect_err("a number is no binary");
    assert_eq!(error.position(), 3);
    let error = Set::read("several", &args).expect_err("a number is no binary");
    assert_eq!(error.position(), 3);
    let error = Several::read("Several", &().into_args().expect("none")).expect_err("nothing there");
    assert_eq!(error, ArgsError::Missing { position: 1 });
    // Missing arguments read as `null`, and extra ones are ignored.
    let args = (1, (), data(), 4).into_args().expect("a list");
    assert_eq!(Several::read("Several", &args), Ok(Several(1, None, data())));
    let error =
        Set::read("named", &(json!({ "number": "x" }),).into_args().expect("one")).expect_err("a text");
    assert!(
        error.to_string().contains("argument 1") && error.to_string().contains("expected u32"),
        "{error}"
    );
    let error = Set::read("strange", &args).expect_err("no such variant");
    assert!(error.to_string().contains("unknown variant `strange`"), "{error}");
}

#[test]
fn panics_on_invalid_event_set() {
    #[derive(Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        A { x: u32 },
    }
    impl EventSet for Tagged {}

    let error = Tagged::A { x: 1 }.write().expect_err("it has no variant to be named by");
    assert!(error.to_string().contains("a variant that serde writes with its name"), "{error}");
    let panicked = std::panic::catch_unwind(Tagged::names).expect_err("no names");
    let text = panicked.downcast_ref::<String>().expect("a text");
    assert!(text.contains("Tagged` is a set of events, so it has to be an enum"), "{text}");
}

fn five() -> Option<u32> {
    Some(5)
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Defaults(u32, Option<u32>, #[serde(default)] u32, #[serde(default = "five")] Option<u32>);

name! { Defaults }

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum DefaultSet {
    Move(u32, #[serde(default)] u32),
}

impl EventSet for DefaultSet {}

#[test]
fn missing_fields_take_their_defaults() {
    let args = |json: &'static str| Args::from_json(json.into(), vec![]).expect("JSON");
    let read = |json| <Defaults as Schema<_>>::read("Defaults", &args(json));
    assert_eq!(read("1,2,3,4"), Ok(Defaults(1, Some(2), 3, Some(4))));
    assert_eq!(read("1,2,3"), Ok(Defaults(1, Some(2), 3, Some(5))));
    assert_eq!(read("1,2,3,null"), Ok(Defaults(1, Some(2), 3, None)));
    assert_eq!(read("1,2"), Ok(Defaults(1, Some(2), 0, Some(5))));
    // Fields without a default read as `null`, as everywhere.
    assert_eq!(read("1"), Ok(Defaults(1, None, 0, Some(5))));
    assert_eq!(read(""), Err(ArgsError::Missing { position: 1 }));
    let read = |json| <DefaultSet as Schema<_>>::read("Move", &args(json));
    assert_eq!(read("1"), Ok(DefaultSet::Move(1, 0)));
    assert_eq!(read("1,2"), Ok(DefaultSet::Move(1, 2)));
    assert_eq!(read(""), Err(ArgsError::Missing { position: 1 }));
}
