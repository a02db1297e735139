use std::time::{Duration, Instant};

use super::*;

#[test]
fn cve_2026_33151_rejects_excess_attachments() {
    let too_many = Err(DecodeError::TooManyAttachments { limit: 10 });
    for count in ["11", "59999", "18446744073709551616", "99999999999999999999999999"] {
        assert_eq!(decode(&format!("5{count}-[\"x\",{}]", hole(0))), too_many, "{count}");
    }
    let mut generous = DefaultDecoder::new(PacketLimits { attachments: 11, ..PacketLimits::default() });
    assert_eq!(generous.decode("511-[\"x\"]".into()), Ok(None));
}

#[test]
fn cve_2026_33151_bounds_attachment_bytes() {
    let mut decoder = DefaultDecoder::new(PacketLimits { packet_bytes: 100, ..PacketLimits::default() });
    assert_eq!(decoder.decode("53-[\"x\"]".into()), Ok(None));
    assert_eq!(decoder.decode(Bytes::from(vec![0; 92]).into()), Ok(None));
    assert_eq!(decoder.decode(Bytes::from_static(b"0").into()), Err(DecodeError::TooLarge { limit: 100 }));
}

#[test]
fn cve_2026_69185_rejects_missing_attachments() {
    for header in ["50-[\"x\"]", "500-[\"x\"]", "60-1[]"] {
        assert_eq!(decode(header), Err(DecodeError::AttachmentCount), "{header}");
    }
}

#[test]
fn cve_2022_2421_rejects_dangling_placeholders() {
    for num in ["\"splice\"", "-1", "1", "1.5", "1e99", "0.0", "null", "[0]", "{}", "18446744073709551616"] {
        let error = decode_all(&format!("51-[\"x\",{}]", hole(num)), &[b"part"]).unwrap_err();
        assert!(matches!(error, DecodeError::Placeholders(_)), "{num}: {error}");
    }
    let missing = decode_all("51-[\"x\",{\"_placeholder\":true}]", &[b"part"]).unwrap_err();
    assert!(matches!(missing, DecodeError::Placeholders(_)));
    let twice = decode_all(&format!("51-[\"x\",{},{}]", hole(0), hole(0)), &[b"part"]).unwrap_err();
    assert!(matches!(twice, DecodeError::Placeholders(_)), "a small packet must not expand");
}

#[test]
fn cve_2023_32695_checks_event_names() {
    for invalid in [
        "2[{\"toString\":\"foo\"}]",
        "2[[]]",
        "2[null]",
        "2[]",
        "2[1.5]",
        "2[1e2]",
        "2[99999999999999999999]",
        "2[-0]",
    ] {
        assert_eq!(decode(invalid), Err(DecodeError::Payload), "{invalid}");
    }
}

#[test]
fn cve_2024_38355_accepts_error_event() {
    assert_eq!(decode("2[\"error\",{}]"), Ok(event("/", None, "error", "{}")));
}

#[test]
fn cve_2020_36049_decodes_linearly() {
    const LONG: usize = 900_000;
    let repeat = |text: &str| text.repeat(LONG / text.len());
    let nest = |open: &str, close: &str| {
        let depth = LONG / (open.len() + close.len());
        format!("{}1{}", open.repeat(depth), close.repeat(depth))
    };
    let texts = [
        format!("5{}", repeat("1")),
        format!("5{}", repeat("0")),
        format!("5{}-", repeat("0")),
        format!("2{}", repeat("1")),
        format!("2{}[\"x\"]", repeat("0")),
        format!("2/{}", repeat("n")),
        format!("2/{}", repeat("é")),
        format!("2[\"{}", repeat("n")),
        format!("2[\"{}\"]", repeat("\\u0061")),
        format!("2[\"{}", repeat("\\")),
        format!("2[{}]", repeat("1")),
        format!("2{}", repeat("[")),
        format!("2[\"x\",{}", repeat("[")),
        format!("2[\"x\"{}]", repeat(",1")),
        format!("2[\"x\"{}]", repeat(" ,1")),
        format!("2[\"x\",{}]", repeat(" ")),
        format!("2{}", repeat(" ")),
        format!("2[\"x\",\"{}\"]", repeat("\\\\")),
        format!("0{}", nest("{\"a\":", "}")),
        format!("0{{{}\"z\":1}}", repeat("\"k\":1,")),
        format!("31[{}]", repeat("[],").trim_end_matches(',')),
    ];
    let attachments = [
        format!("52-[\"x\"{}]", repeat(",{\"num\":0}")),
        format!("52-[\"x\"{}]", repeat(",{\"_placeholder\":true,\"num\":1}")),
        format!("52-[\"x\",{}]", nest("[", "]")),
        format!("52-[\"x\",{}]", nest("{\"num\":", "}")),
        format!("52-[\"x\",{}\"{}\"{}]", "{\"num\":".repeat(120), repeat("n"), "}".repeat(120)),
        format!("52-[\"x\",{{{}\"z\":1}}]", repeat("\"num\":[0],")),
    ];
    let begun = clock();
    for text in texts {
        let _ = decoder().decode(text.into());
    }
    for text in attachments {
        let mut decoder = decoder();
        assert_eq!(decoder.decode(text.into()), Ok(None));
        let _ = decoder.decode(Bytes::new().into());
        let _ = decoder.decode(Bytes::new().into());
    }
    // Takes half a second unoptimized; a quadratic decoder would take hours.
    assert!(clock() - begun < Duration::from_secs(30));
}

#[expect(clippy::disallowed_methods, reason = "only elapsed time reveals a quadratic decoder")]
fn clock() -> Instant {
    Instant::now()
}
