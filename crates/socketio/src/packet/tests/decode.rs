use super::*;

#[test]
fn connect_payload_is_object_or_absent() {
    let connect = |namespace, auth: &'static str| Ok(packet(namespace, Body::Connect { auth: auth.into() }));
    assert_eq!(decode("0"), connect("/", ""));
    assert_eq!(decode("0{\"token\":\"123\"}"), connect("/", "{\"token\":\"123\"}"));
    assert_eq!(decode("0 { } \n"), connect("/", "{ }"));
    assert_eq!(decode("0/,{}"), connect("/", "{}"));
    assert_eq!(decode("0/custom,"), connect("/custom", ""));
    assert_eq!(decode("0/custom"), connect("/custom", ""));
    assert_eq!(decode("0/custom,{\"a\":[1]}"), connect("/custom", "{\"a\":[1]}"));
    assert_eq!(decode("0/é/ü,"), connect("/é/ü", ""));
    for invalid in
        ["0[]", "0\"x\"", "0null", "0-5", "0true", "0{", "0{}x", "0{}{}", "0{a:1}", "0custom,", "0/a,,", "0 "]
    {
        assert_eq!(decode(invalid), Err(DecodeError::Payload), "{invalid}");
    }
}

#[test]
fn keeps_query_in_namespace_name() {
    let connect = Body::Connect { auth: ByteString::new() };
    assert_eq!(decode("0/custom?x=1&y=2,"), Ok(packet("/custom?x=1&y=2", connect)));
}

#[test]
fn disconnect_has_no_payload() {
    assert_eq!(decode("1"), Ok(packet("/", Body::Disconnect)));
    assert_eq!(decode("1/custom,"), Ok(packet("/custom", Body::Disconnect)));
    assert_eq!(decode("1/custom"), Ok(packet("/custom", Body::Disconnect)));
    for invalid in ["1[\"bye\"]", "1{}", "1 ", "1/custom,x"] {
        assert_eq!(decode(invalid), Err(DecodeError::Payload), "{invalid}");
    }
}

#[test]
fn decodes_events_with_a_name() {
    assert_eq!(decode(r#"2["message"]"#), Ok(event("/", None, "message", "")));
    assert_eq!(
        decode(r#"2["message",1,"2",{"3":[true]}]"#),
        Ok(event("/", None, "message", r#"1,"2",{"3":[true]}"#))
    );
    assert_eq!(decode(r#"2/admin,456["x",null]"#), Ok(event("/admin", 456, "x", "null")));
    assert_eq!(decode(r#"20["x"]"#), Ok(event("/", 0, "x", "")));
    assert_eq!(decode("2 [ \"x\" ,\t1 ,2 ]\r\n"), Ok(event("/", None, "x", "1 ,2")));
    assert_eq!(decode(r#"2["",""]"#), Ok(event("/", None, "", r#""""#)));
    assert_eq!(decode(r#"2["]","]"]"#), Ok(event("/", None, "]", r#""]""#)));
    assert_eq!(decode(r#"2["a\"\\\u00e9\n,"]"#), Ok(event("/", None, "a\"\\é\n,", "")));
    assert_eq!(decode(r#"2["👩‍🚀","é"]"#), Ok(event("/", None, "👩‍🚀", r#""é""#)));
    assert_eq!(decode("2[1,2]"), Ok(event("/", None, "1", "2")), "a name may be a number");
    assert_eq!(decode("2[ -12 ]"), Ok(event("/", None, "-12", "")));
    let placeholder = r#"{"_placeholder":true,"num":7}"#;
    assert_eq!(
        decode(&format!("2[\"x\",{placeholder}]")),
        Ok(event("/", None, "x", r#"{"_placeholder":true,"num":7}"#)),
        "without attachments there are no placeholders",
    );
}

#[test]
fn lone_surrogates_are_replaced() {
    let args = |list: &'static str| Args::from_json(list.into(), Vec::new()).unwrap();
    let body = |text| decode(text).unwrap().body;
    let name = "a\u{fffd}".into();
    assert_eq!(
        body(r#"2["a\ud83d","\ude00",{"\ud83d":1}]"#),
        Body::Event { name, args: args(r#""\ufffd",{"\ufffd":1}"#), ack: None }
    );
    assert_eq!(body(r#"31["a\ud83d"]"#), Body::Ack { id: AckId(1), args: args(r#""a\ufffd""#) });
    assert_eq!(body(r#"0{"token":"a\ud83d"}"#), Body::Connect { auth: r#"{"token":"a\ufffd"}"#.into() });
    assert_eq!(
        body(r#"2["\ud83d\ude00"]"#),
        Body::Event { name: "😀".into(), args: Args::empty(), ack: None }
    );
}

#[test]
fn refuses_payloads_without_event() {
    for invalid in [
        "2",
        "27",
        "2{}",
        "2\"message\"",
        "2[]",
        "2[ ]",
        "2abc[\"message\"]",
        "2[\"message\"]abc",
        "2[\"message\"",
        "2[\"message\"]]",
        "2[\"message\",]",
        "2[\"message\",,1]",
        "2[\"message\" 1]",
        "2[,\"message\"]",
        "2[\"a\"\"b\"]",
        "2-1[\"message\"]",
        "2[\"message\"]/custom,",
        "2[\"a\nb\"]",
        "2[\"\\x\"]",
        "2[\"",
        "2[\"\\",
        "2[\"\\\"]",
        "2[\"é",
        "2]",
        "2[",
        "2[1",
        "2[true]",
        "2[1 2]",
        "2[+1]",
        "2[01]",
        "2[1,]",
        "2[-]",
        "2[é]",
        "2[\"x\",\u{a0}1]",
        "2[\"x\",nul]",
        "2[\"x\"],[\"y\"]",
    ] {
        assert_eq!(decode(invalid), Err(DecodeError::Payload), "{invalid}");
    }
}

#[test]
fn refuses_reserved_names_in_any_spelling() {
    let reserved =
        ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
    for name in reserved {
        assert_eq!(decode(&format!("2[\"{name}\"]")), Err(DecodeError::Reserved));
        let escaped = format!("2[\"\\u{:04x}{}\",1]", name.as_bytes()[0], &name[1..]);
        assert_eq!(decode(&escaped), Err(DecodeError::Reserved), "{escaped}");
        assert_eq!(decoder().decode(format!("51-[\"{name}\"]").into()), Err(DecodeError::Reserved));
        assert_eq!(
            DefaultCodec.encode(&Event::new(Namespace::main(), name, Args::empty())).unwrap_err(),
            EncodeError::Reserved,
        );
    }
    for free in ["Connect", "connecting", "connection", "error", "message", " connect"] {
        assert!(decode(&format!("2[\"{free}\"]")).is_ok());
        assert!(DefaultCodec.encode(&Event::new(Namespace::main(), free, Args::empty())).is_ok());
    }
}

#[test]
fn acks_are_arrays_with_an_id() {
    let ack = |namespace, id, list| Ok(packet(namespace, Body::Ack { id: AckId(id), args: args(list, &[]) }));
    assert_eq!(decode("3456[1,\"2\"]"), ack("/", 456, "1,\"2\""));
    assert_eq!(decode("30[]"), ack("/", 0, ""));
    assert_eq!(decode("3/custom,7[ [] ]"), ack("/custom", 7, "[]"));
    assert_eq!(decode(&format!("3{}[]", u64::MAX)), ack("/", u64::MAX, ""));
    assert_eq!(decode("3[\"nobody asked\"]"), Err(DecodeError::AckId));
    assert_eq!(decode("318446744073709551616[]"), Err(DecodeError::AckId));
    for invalid in ["3", "31", "31{}", "31\"x\"", "31[", "31[]]", "31[,]", "31[1,]", "3-1[]"] {
        assert_eq!(decode(invalid), Err(DecodeError::Payload), "{invalid}");
    }
}

#[test]
fn decodes_only_seven_types() {
    for invalid in ["", "7[]", "9", "abc", "a", " 2[\"x\"]", "-1", "é", "\u{661}"] {
        assert_eq!(decode(invalid), Err(DecodeError::Type), "{invalid:?}");
    }
    for error in ["4", "4{\"message\":\"no\"}", "4/custom,\"no\""] {
        assert_eq!(decode(error).unwrap().body, Body::ConnectError);
    }
}

#[test]
fn slices_arguments_and_names() {
    let text = ByteString::from(r#"2/chat,1["news",{"a":1},2]"#.to_owned());
    let bytes = text.as_bytes().as_ptr_range();
    let packet = decoder().decode(text.clone().into()).unwrap().unwrap();
    let Body::Event { name, args, .. } = packet.body else { panic!() };
    for slice in [&packet.namespace, &name, args.list()] {
        assert!(bytes.contains(&slice.as_bytes().as_ptr()), "{slice} was copied");
    }
}

#[test]
fn bounds_namespace_names() {
    let name = format!("/{}", "n".repeat(1023));
    assert_eq!(decode(&format!("1{name},")).unwrap().namespace, name);
    assert_eq!(decode(&format!("1{name}n,")), Err(DecodeError::NamespaceTooLong { limit: 1024 }));
}
