use super::*;

#[test]
fn encoded_packets_are_what_clients_expect() {
    let (main, custom) = (Namespace::main(), Namespace::new("/custom"));
    let encode = |namespace: &Namespace, list, ack: Option<u64>, offset: Option<&'static str>| {
        let mut event = Event::new(namespace.clone(), "news", args(list, &[]));
        event.ack = ack.map(|id| AckRequest { id: AckId(id), answers: Arc::new(Nobody) });
        event.offset = offset.map(ByteString::from);
        texts(&DefaultCodec.encode(&event).unwrap())
    };
    assert_eq!(encode(&main, "", None, None), [r#"42["news"]"#]);
    assert_eq!(encode(&main, "1,\"é\"", None, None), [r#"42["news",1,"é"]"#]);
    assert_eq!(encode(&custom, "{}", Some(12), None), [r#"42/custom,12["news",{}]"#]);
    assert_eq!(encode(&main, "1", Some(0), Some("a\"b")), [r#"420["news",1,"a\"b"]"#]);
    assert_eq!(encode(&main, "", None, Some("offset")), [r#"42["news","offset"]"#]);
    let odd = Event::new(main.clone(), "\"q\"\\\n\u{1}é", Args::empty());
    assert_eq!(texts(&DefaultCodec.encode(&odd).unwrap()), [r#"42["\"q\"\\\n\u0001é"]"#]);

    let binary = args(r#"[{"_placeholder":true,"num":0}],{"_placeholder":true,"num":1}"#, &[b"A", b"B"]);
    let mut event = Event::new(custom.clone(), "x", binary.clone());
    event.offset = Some("end".into());
    assert_eq!(
        texts(&DefaultCodec.encode(&event).unwrap()),
        [
            r#"452-/custom,["x",[{"_placeholder":true,"num":0}],{"_placeholder":true,"num":1},"end"]"#,
            "A",
            "B",
        ],
    );
    let answer =
        |namespace, id, args: &Args| texts(&DefaultCodec.encode_answer(namespace, AckId(id), args).unwrap());
    assert_eq!(answer(&main, 456, &args("1,null", &[])), ["43456[1,null]"]);
    assert_eq!(answer(&custom, u64::MAX, &Args::empty()), ["43/custom,18446744073709551615[]"]);
    assert_eq!(
        answer(&main, 7, &binary),
        [r#"462-7[[{"_placeholder":true,"num":0}],{"_placeholder":true,"num":1}]"#, "A", "B"],
    );

    let socket = SocketId::new("so\"cket");
    assert_eq!(texts(&DefaultCodec.encode_connect(&main, &socket, None)), [r#"40{"sid":"so\"cket"}"#]);
    assert_eq!(
        texts(&DefaultCodec.encode_connect(&custom, &socket, Some("secret"))),
        [r#"40/custom,{"sid":"so\"cket","pid":"secret"}"#],
    );
    assert_eq!(
        texts(&DefaultCodec.encode_connect_error(&custom, r#"{"message":"Invalid namespace"}"#)),
        [r#"44/custom,{"message":"Invalid namespace"}"#],
    );
    assert_eq!(texts(&DefaultCodec.encode_disconnect(&main)), ["41"]);
    assert_eq!(texts(&DefaultCodec.encode_disconnect(&custom)), ["41/custom,"]);
}

#[test]
fn all_sessions_share_one_codec() {
    let codec: Arc<dyn Codec> = DefaultCodec::shared();
    let parser: Arc<dyn Parser> = DefaultCodec::shared();
    let upcast: Arc<dyn Codec> = parser;
    assert!(Arc::ptr_eq(&codec, &upcast));
}

fn texts(frame: &Frame) -> Vec<String> {
    frame.messages().iter().map(|message| String::from_utf8_lossy(message.as_bytes()).into_owned()).collect()
}
