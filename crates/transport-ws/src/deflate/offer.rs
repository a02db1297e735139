//! Negotiation of permessage-deflate (RFC 7692 sections 5 and 7.1).

use std::borrow::Cow;

use http::HeaderValue;

use super::settings::{Compression, MAX_WINDOW_BITS, MIN_WINDOW_BITS};
use super::{Deflater, Inflater, Reservation};

/// Accepts the first acceptable offer.
///
/// `extensions` are the values of `Sec-WebSocket-Extensions`, with offers in the client's order of preference. An offer
/// that is malformed, has an unknown, repeated or out-of-range parameter, or requires something unsupported is
/// declined, and the next is tried. Runs in time linear in their length.
pub(crate) fn negotiate(extensions: &[HeaderValue], compression: &Compression) -> Option<Agreement> {
    let values = extensions.iter().map(HeaderValue::as_bytes);
    values
        .flat_map(|value| split(value, b','))
        .filter_map(Offer::parse)
        .find_map(|offer| Agreement::on(offer, compression))
}

/// Negotiated parameters of compression.
#[derive(Debug)]
pub(crate) struct Agreement {
    /// Window of the server's messages, in bits.
    pub(crate) window_bits: u8,
    /// Set if sent messages share a context.
    pub(crate) deflate_context: Option<Reservation>,
    /// Set if received messages share a context.
    pub(crate) inflate_context: Option<Reservation>,
    /// Client window in the response, in bits.
    pub(crate) response: HeaderValue,
}

impl Agreement {
    /// Returns `None` if the offer requires something unsupported.
    fn on(offer: Offer, compression: &Compression) -> Option<Self> {
        let (most, client_most) = compression.windows();
        let asked = offer.server_bits.unwrap_or(MAX_WINDOW_BITS);
        if asked < MIN_WINDOW_BITS {
            return None;
        }
        let exact = asked.min(most);
        let reserve = |wanted: bool, bytes| wanted.then(|| compression.reserve(bytes)).flatten();
        let keeps = compression.keeps_context();
        let (_, memory_level) = compression.levels();
        let deflate_context =
            reserve(keeps && !offer.server_no_context, Deflater::memory(exact, memory_level));
        let inflate_context = reserve(keeps && !offer.client_no_context, Inflater::MEMORY);
        // A distinct window for each request would let clients multiply how often a broadcast is compressed.
        let shared = || [most, SHARED_WINDOW_BITS, MIN_WINDOW_BITS].into_iter().find(|&bits| bits <= exact);
        let window_bits = if deflate_context.is_some() { exact } else { shared()? };

        let mut response = NAME.to_owned();
        if deflate_context.is_none() {
            response += "; server_no_context_takeover";
        }
        if inflate_context.is_none() {
            response += "; client_no_context_takeover";
        }
        if offer.server_bits.is_some() || window_bits < MAX_WINDOW_BITS {
            response += &format!("; server_max_window_bits={window_bits}");
        }
        if let Some(hint) = offer.client_bits
            && client_most < MAX_WINDOW_BITS
        {
            response += &format!("; client_max_window_bits={}", hint.min(client_most));
        }
        let response = HeaderValue::try_from(response).ok()?;
        Some(Self { window_bits, deflate_context, inflate_context, response })
    }
}

/// A well-formed offer of this extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Offer {
    server_no_context: bool,
    client_no_context: bool,
    server_bits: Option<u8>,
    /// Set if the client accepts a window in the response; the largest window that it would use.
    client_bits: Option<u8>,
}

impl Offer {
    /// Returns `None` for another extension and for offers to be declined (RFC 7692 section 7).
    fn parse(element: &[u8]) -> Option<Self> {
        let mut parts = split(element, b';');
        if parts.next()? != NAME.as_bytes() {
            return None;
        }
        let mut offer = Self::default();
        for part in parts {
            let (name, value) = match part.iter().position(|&byte| byte == b'=') {
                Some(at) => (part[..at].trim_ascii_end(), Some(unquoted(part[at + 1..].trim_ascii_start())?)),
                None => (part, None),
            };
            match (name, value) {
                (b"server_no_context_takeover", None) => set(&mut offer.server_no_context)?,
                (b"client_no_context_takeover", None) => set(&mut offer.client_no_context)?,
                (b"server_max_window_bits", Some(bits)) => put(&mut offer.server_bits, window_bits(&bits)?)?,
                (b"client_max_window_bits", Some(bits)) => put(&mut offer.client_bits, window_bits(&bits)?)?,
                (b"client_max_window_bits", None) => put(&mut offer.client_bits, MAX_WINDOW_BITS)?,
                _ => return None,
            }
        }
        Some(offer)
    }
}

/// Sets a flag; returns `None` if it was already set.
fn set(flag: &mut bool) -> Option<()> {
    (!std::mem::replace(flag, true)).then_some(())
}

/// Sets a value; returns `None` if one was already set.
fn put(bits: &mut Option<u8>, value: u8) -> Option<()> {
    bits.replace(value).is_none().then_some(())
}

/// Parses a decimal from 8 to 15 without leading zeros.
fn window_bits(digits: &[u8]) -> Option<u8> {
    match digits {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// Removes optional quotes around a value (RFC 6455 section 9.1).
fn unquoted(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(quoted) = value.strip_prefix(b"\"") else { return Some(value.into()) };
    let mut quoted = quoted.strip_suffix(b"\"")?.iter().copied();
    let mut plain = Vec::new();
    while let Some(byte) = quoted.next() {
        plain.push(if byte == b'\\' { quoted.next()? } else { byte });
    }
    Some(plain.into())
}

/// Splits a list and trims blanks; separators inside quotes do not count.
///
/// An unclosed quote extends to the end, so the text after it belongs to a malformed element.
fn split(list: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let list = rest?;
        let (mut quoted, mut escaped) = (false, false);
        let end = list.iter().position(|&byte| {
            if escaped {
                escaped = false;
                return false;
            }
            escaped = quoted && byte == b'\\';
            quoted ^= byte == b'"';
            byte == separator && !quoted
        });
        rest = end.map(|end| &list[end + 1..]);
        Some(list[..end.unwrap_or(list.len())].trim_ascii())
    })
}

const NAME: &str = "permessage-deflate";
/// The middle of the windows that clients without context share.
const SHARED_WINDOW_BITS: u8 = 12;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer_with(compression: &Compression, offers: &[&str]) -> Option<String> {
        let values: Vec<_> =
            offers.iter().map(|offer| HeaderValue::from_bytes(offer.as_bytes()).unwrap()).collect();
        let agreement = negotiate(&values, compression)?;
        let answer = agreement.response.to_str().unwrap();
        Some(answer.strip_prefix("permessage-deflate").unwrap().trim_start_matches("; ").to_owned())
    }

    /// Returns the response of a server without contexts.
    fn answer(offer: &str) -> Option<String> {
        answer_with(&Compression::new(), &[offer])
    }

    const NO_CONTEXTS: &str = "server_no_context_takeover; client_no_context_takeover";

    #[test]
    fn answers_each_parameter() {
        let without = |more: &str| Some(format!("{NO_CONTEXTS}{more}"));
        assert_eq!(answer("permessage-deflate"), without(""));
        assert_eq!(answer("permessage-deflate; client_max_window_bits"), without(""));
        assert_eq!(answer("permessage-deflate; client_max_window_bits=8"), without(""));
        assert_eq!(answer("permessage-deflate; server_no_context_takeover"), without(""));
        for (asked, given) in [("15", 15), ("14", 12), ("12", 12), ("11", 9), ("\"10\"", 9), ("\"\\9\"", 9)] {
            let expected = without(&format!("; server_max_window_bits={given}"));
            assert_eq!(answer(&format!("permessage-deflate; server_max_window_bits={asked}")), expected);
        }
    }

    #[test]
    fn keeps_contexts_when_both_agree() {
        let keeping = Compression::new().context_takeover(true).window_bits(14).client_window_bits(12);
        let answer = |offer| answer_with(&keeping, &[offer]);
        let expected = |text: &str| Some(text.to_owned());
        assert_eq!(answer("permessage-deflate"), expected("server_max_window_bits=14"));
        assert_eq!(
            answer("permessage-deflate; server_max_window_bits=11; client_no_context_takeover"),
            expected("client_no_context_takeover; server_max_window_bits=11")
        );
        assert_eq!(
            answer("permessage-deflate; client_max_window_bits=10; server_no_context_takeover"),
            expected("server_no_context_takeover; server_max_window_bits=14; client_max_window_bits=10")
        );
        assert_eq!(
            answer("permessage-deflate; client_max_window_bits"),
            expected("server_max_window_bits=14; client_max_window_bits=12")
        );
    }

    #[test]
    fn drops_contexts_over_memory_limit() {
        let inflater_only = Compression::new().context_takeover(true).max_context_memory(Inflater::MEMORY);
        assert_eq!(
            answer_with(&inflater_only, &["permessage-deflate"]).as_deref(),
            Some("server_no_context_takeover")
        );
        let one = Deflater::memory(15, 8) + Inflater::MEMORY;
        let room_for_one = Compression::new().context_takeover(true).max_context_memory(one);
        let offer = [HeaderValue::from_static("permessage-deflate")];
        let first = negotiate(&offer, &room_for_one).unwrap();
        assert_eq!(first.response, "permessage-deflate");
        assert_eq!(answer_with(&room_for_one, &["permessage-deflate"]).as_deref(), Some(NO_CONTEXTS));
        drop(first);
        assert_eq!(answer_with(&room_for_one, &["permessage-deflate"]).as_deref(), Some(""));
    }

    #[test]
    fn declines_unacceptable_offers() {
        for offer in [
            "",
            ",",
            "x-webkit-deflate-frame",
            "permessage-deflate-2",
            "permessage-deflate; unknown",
            "permessage-deflate;",
            "permessage-deflate; =",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover=",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
            "permessage-deflate; server_max_window_bits=\"9",
            "permessage-deflate; server_max_window_bits=9\"",
            "permessage-deflate; server_max_window_bits=\"9\\\"",
            "permessage-deflate; x=\"a, permessage-deflate, b\"",
        ] {
            assert_eq!(answer(offer), None, "{offer}");
        }
    }

    #[test]
    fn accepts_first_acceptable_offer() {
        let expected = Some(format!("{NO_CONTEXTS}; server_max_window_bits=12"));
        let list = "foo, permessage-deflate; server_max_window_bits=8, permessage-deflate; x=\"a,b\" ,, \
                    permessage-deflate;server_max_window_bits=13 , permessage-deflate";
        assert_eq!(answer(list), expected);
        let lines = [
            "bar; permessage-deflate",
            "permessage-deflate; server_max_window_bits = 12",
            "permessage-deflate",
        ];
        assert_eq!(answer_with(&Compression::new(), &lines), expected);
    }

    proptest! {
        #[test]
        fn answers_only_with_offered_parameters(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "permessage-deflate", ";", ",", "=", "\"", "\\", " ", "9", "15", "client_max_window_bits",
                    "server_max_window_bits", "server_no_context_takeover", "client_no_context_takeover",
                ]),
                0..24,
            ),
        ) {
            let header = parts.concat();
            if let Some(answer) = answer_with(&Compression::new().client_window_bits(9), &[&header]) {
                prop_assert!(header.contains(NAME));
                let name = "client_max_window_bits";
                prop_assert!(!answer.contains(name) || header.contains(name));
            }
        }
    }
}
