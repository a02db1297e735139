use super::*;

#[test]
fn attachments_follow_their_packet() {
    let body =
        |list, parts: &[&'static [u8]]| Body::Event { name: "x".into(), args: args(list, parts), ack: None };
    assert_eq!(
        decode_all(&format!("51-[\"x\",{}]", hole(0)), &[b"\x00\xff"]),
        Ok(packet("/", body(r#"{"_placeholder":true,"num":0}"#, &[b"\x00\xff"]))),
    );
    assert_eq!(
        decode_all(&format!("52-/custom,[\"x\",[{{\"k\":{}}}],{}]", hole(0), hole(1)), &[b"", b"b"]),
        Ok(packet(
            "/custom",
            body(r#"[{"k":{"_placeholder":true,"num":0}}],{"_placeholder":true,"num":1}"#, &[b"", b"b"]),
        )),
    );
    let ack = Body::Ack { id: AckId(789), args: args(r#"{"_placeholder":true,"num":0}"#, &[b"a"]) };
    assert_eq!(decode_all(&format!("61-789[{}]", hole(0)), &[b"a"]), Ok(packet("/", ack)));
    assert_eq!(decode_all("51-[\"x\"]", &[b"unused"]), Ok(packet("/", body("", &[b"unused"]))));
    let holes: Vec<_> = (0..10).map(hole).collect();
    assert!(decode_all(&format!("510-[\"x\",{}]", holes.join(",")), &[b"p" as &[u8]; 10]).is_ok());
}

#[test]
fn reorders_attachments_to_text_order() {
    let got = |list: &str, parts: &[&'static [u8]]| {
        let packet = decode_all(&format!("5{}-[\"x\",{list}]", parts.len()), parts).unwrap();
        let Body::Event { args, .. } = packet.body else { panic!() };
        args.check_placeholders().unwrap();
        (
            args.json().to_owned(),
            args.attachments()
                .iter()
                .map(|part| String::from_utf8_lossy(part).into_owned())
                .collect::<Vec<_>>(),
        )
    };
    let list = |list: String, parts: &[&str]| (list, parts.iter().map(|part| (*part).to_owned()).collect());
    assert_eq!(
        got(&format!("{},{}", hole(1), hole(0)), &[b"a", b"b"]),
        list(format!("{},{}", hole(0), hole(1)), &["b", "a"]),
    );
    assert_eq!(
        got(
            r#"{"é":[{"num":2,"_placeholder":true,"more":{"_placeholder":true,"num":0}}]},{"\u005fplaceholder":true,"n\u0075m": 1 }"#,
            &[b"a", b"b", b"c"],
        ),
        list(
            r#"{"é":[{"num":0,"_placeholder":true,"more":{"_placeholder":true,"num":1}}]},{"\u005fplaceholder":true,"n\u0075m": 2 }"#.into(),
            &["c", "a", "b"],
        ),
    );
    assert_eq!(got(&hole(1), &[b"unused", b"b"]), list(hole(0), &["b"]));
    assert_eq!(
        got(&format!("{},{}", hole(0), hole(0)), &[b"", b"unused"]),
        list(format!("{},{}", hole(0), hole(1)), &["", ""]),
    );
    // For duplicate keys the last value counts.
    let not_placeholders = concat!(
        r#"{"num":5},{"_placeholder":false,"num":[7]},{"_placeholder":1},"num",true,null,-1,1.5,{"a":"num","b":8},"#,
        r#"{"_placeholder":true,"_placeholder":[],"num":5},{"_placeholder":true,"_placeholder":"x","num":5}"#,
    );
    let unchanged = format!("{},{not_placeholders},{}", hole(0), hole(1));
    assert_eq!(got(&unchanged, &[b"a", b"b"]), list(unchanged.clone(), &["a", "b"]));
    let thrice = format!("52-[\"x\",{},{},{}]", hole(0), hole(0), hole(1));
    assert_eq!(decode_all(&thrice, &[b"", b""]), Err(DecodeError::AttachmentCount));
}

#[test]
fn parses_attachment_count_and_dash() {
    for invalid in [
        "5-[\"x\"]",
        "5[\"x\"]",
        "5a-[\"x\"]",
        "51.5-[\"x\"]",
        "5-1-[\"x\"]",
        "51[\"x\"]",
        "51",
        "5",
        "6",
        "61/,1[]",
    ] {
        assert_eq!(decode(invalid), Err(DecodeError::AttachmentCount), "{invalid}");
    }
}

#[test]
fn refuses_misplaced_text_and_attachments() {
    let mut waiting = decoder();
    assert_eq!(waiting.decode(Bytes::from_static(b"x").into()), Err(DecodeError::AttachmentUnannounced));
    assert_eq!(waiting.decode(format!("52-[\"x\",{}]", hole(0)).into()), Ok(None));
    assert_eq!(waiting.decode(Bytes::from_static(b"x").into()), Ok(None));
    assert_eq!(waiting.decode("1/custom,".into()), Err(DecodeError::AttachmentMissing));
}
