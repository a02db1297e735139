//! Origins in normal form (RFC 6454)
//!
//! Settings and requests are normalised before they are compared, so a comparison is one of texts.

use std::net::Ipv6Addr;

/// Converts an origin into the form that browsers send (RFC 6454 section 6.2).
///
/// Trims white space and a trailing slash, lower-cases scheme and host, encodes a non-ASCII host in Punycode, and omits
/// the scheme's default port. `null` and `file://` are origins too.
///
/// # Errors
/// Returns the problem and the expected form, if no browser can send this origin.
pub(crate) fn normalise(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("null") {
        return Ok("null".into());
    }
    let Some((scheme, rest)) = text.split_once("://") else { return Err(without_scheme(text)) };
    let scheme = scheme.to_ascii_lowercase();
    if !is_scheme(&scheme) {
        return Err(format!("`{text}` has no valid scheme; an origin is like `https://chat.example`"));
    }
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    let form = if scheme == "file" {
        "file://".to_owned()
    } else {
        let (sent, implied) = match scheme.as_str() {
            // Pages are fetched by http or https, also if they connect by WebSocket.
            "http" | "ws" => ("http", Some(80)),
            "https" | "wss" => ("https", Some(443)),
            other => (other, None),
        };
        let (host, port) = host_and_port(host, implied).map_err(|problem| format!("`{text}` {problem}"))?;
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let form = format!("{sent}://{host}{port}");
        if sent != scheme {
            return Err(format!("`{text}` is not the origin of a page; write `{form}`"));
        }
        form
    };
    // Browsers give files no host, even where the URL has one.
    let names_more = scheme == "file" && !authority.is_empty();
    if !user.is_empty() || names_more || !matches!(tail, "" | "/") {
        return Err(format!("`{text}` is more than an origin; write `{form}`"));
    }
    Ok(form)
}

/// Returns the host of an origin in normal form, and its port or the default port of its scheme.
pub(crate) fn authority(origin: &str) -> Option<(&str, u16)> {
    let (scheme, rest) = origin.split_once("://")?;
    let implied = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let (host, port) = split_port(rest);
    let port = port.map_or(Some(implied), |port| port.parse().ok())?;
    (!host.is_empty()).then_some((host, port))
}

/// Splits `host:port`; brackets stay around an IPv6 address.
pub(crate) fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        // The last colon inside brackets belongs to an IPv6 address.
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (authority, None),
    }
}

fn host_and_port(authority: &str, implied: Option<u16>) -> Result<(String, Option<u16>), String> {
    let (host, port) = split_port(authority);
    let port = match port {
        None | Some("") => None,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(port.parse().map_err(|_| "has a port beyond 65535".to_owned())?)
        }
        Some(_) => return Err("has a port that is no number".into()),
    };
    let port = port.filter(|port| Some(*port) != implied);
    if host.is_empty() {
        return Err("has no host; an origin is like `https://chat.example`".into());
    }
    if host.contains('*') {
        return Err("is a pattern, and each origin has to be named; `Cors::matching` takes a function".into());
    }
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').and_then(|address| address.parse::<Ipv6Addr>().ok());
        let address = address.ok_or("has no valid IPv6 address in its brackets")?;
        return Ok((format!("[{address}]"), port));
    }
    if host.bytes().any(|byte| byte.is_ascii_whitespace() || b"<>\"%{}|^`[]:,;".contains(&byte)) {
        return Err("has a character that no host has".into());
    }
    let host = idna::domain_to_ascii(host).map_err(|_| "has no valid host name".to_owned())?;
    if host.is_empty() { Err("has no host".into()) } else { Ok((host, port)) }
}

fn without_scheme(text: &str) -> String {
    let bare = text.trim_start_matches('/');
    let local = bare.starts_with("localhost") || bare.starts_with("127.") || bare.starts_with("[::1]");
    let scheme = if local { "http" } else { "https" };
    match normalise(&format!("{scheme}://{bare}")) {
        Ok(form) if text != "*" => format!("`{text}` has no scheme; write `{form}`"),
        _ => format!("`{text}` is not an origin, which is like `https://chat.example`"),
    }
}

/// Returns whether this is a scheme (RFC 3986 section 3.1), in lower case.
fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_origins_have_one_form() {
        for (text, form) in [
            ("https://chat.example", "https://chat.example"),
            (" https://chat.example/ ", "https://chat.example"),
            ("HTTPS://Chat.Example", "https://chat.example"),
            ("https://chat.example:443", "https://chat.example"),
            ("http://chat.example:80/", "http://chat.example"),
            ("http://chat.example:443", "http://chat.example:443"),
            ("https://chat.example:08443", "https://chat.example:8443"),
            ("https://chat.example:", "https://chat.example"),
            ("https://b\u{fc}cher.example", "https://xn--bcher-kva.example"),
            ("https://B\u{dc}CHER.example", "https://xn--bcher-kva.example"),
            ("https://bu\u{308}cher.example", "https://xn--bcher-kva.example"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
            ("http://[0:0:0:0:0:0:0:1]:3000", "http://[::1]:3000"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("https://my_host.example", "https://my_host.example"),
            ("null", "null"),
            ("file://", "file://"),
            ("file:///", "file://"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("chrome-extension://abcdef/", "chrome-extension://abcdef"),
        ] {
            assert_eq!(normalise(text).as_deref(), Ok(form), "{text}");
            assert_eq!(normalise(form).as_deref(), Ok(form), "{text}");
        }
    }

    #[test]
    fn names_form_of_impossible_origin() {
        for (text, repair) in [
            ("chat.example", "write `https://chat.example`"),
            ("//chat.example", "write `https://chat.example`"),
            ("localhost:3000", "write `http://localhost:3000`"),
            ("127.0.0.1", "write `http://127.0.0.1`"),
            ("https://chat.example/app", "write `https://chat.example`"),
            ("https://chat.example/?x=1", "write `https://chat.example`"),
            ("https://me:pw@chat.example", "write `https://chat.example`"),
            ("wss://chat.example:443", "write `https://chat.example`"),
            ("ws://chat.example", "write `http://chat.example`"),
            ("file:///home/page.html", "write `file://`"),
            ("file://host", "write `file://`"),
            ("https://*.example", "Cors::matching"),
            ("https://chat.example:port", "no number"),
            ("https://chat.example:65536", "65535"),
            ("https://", "no host"),
            ("https://a b", "character"),
            ("https://[::x]", "IPv6"),
            ("://chat.example", "scheme"),
            ("1http://chat.example", "scheme"),
            ("", "https://chat.example"),
            ("*", "not an origin"),
        ] {
            let problem = normalise(text).expect_err(text);
            assert!(problem.contains(repair), "{text}: {problem}");
        }
    }
}
