//! Which pages may use this server: a browser sends a visitor's cookies along, whichever page asks

use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use http::{HeaderMap, HeaderName};

use crate::config::Config;
use crate::cors::Cors;
use crate::requests::Peer;

/// Which pages may begin sessions, and open WebSockets
///
/// A WebSocket is not subject to the same-origin policy: without this, any page that a visitor opens could connect
/// in the visitor's name, with the visitor's cookies, and read the answers (RFC 6455 section 10.2). Long-polling
/// is treated alike, although CORS keeps such a page from reading. What a page may *read* across origins is
/// [`Cors`].
///
/// A page is known by the `Origin` that browsers send; where there is none, by `Sec-Fetch-Site`. Programs that
/// are no browsers send neither, and nothing here stops them.
///
/// Origins that [`Config::allow_origin`] or [`Cors::Origins`] name are let in by each of these. A request that is
/// not is answered with 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Origins {
    /// Pages of this server's own origin; and any other page whose request carries neither `Cookie` nor
    /// `Authorization`, so that nobody can be impersonated
    ///
    /// Stricter than Node's server, which lets every page open a WebSocket with cookies.
    #[default]
    SameOrCookieless,
    /// Pages of this server's own origin, and no others but those that are named
    Same,
    /// Every page, with cookies; for servers that know their users by something else
    Any,
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A page that may not use this server
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ForeignOrigin<'a> {
    /// Its origin; empty when the browser did not tell
    pub(crate) origin: &'a str,
    /// The host it asked for
    pub(crate) host: &'a str,
}

/// What the page is told; the log says more
pub(crate) const REPAIR: &str = "This page's origin may not connect here. If it should, its operator can add it with \
                                 Config::allow_origin, or with --allow-origin of roomcast serve";

/// Whether the page behind a request may use this server
pub(crate) fn check<'a>(
    config: &Config,
    peer: Option<Peer>,
    headers: &'a HeaderMap,
) -> Result<(), ForeignOrigin<'a>> {
    let carries_identity = || headers.contains_key(COOKIE) || headers.contains_key(AUTHORIZATION);
    if config.origins == Origins::Any || config.origins == Origins::SameOrCookieless && !carries_identity() {
        return Ok(());
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let Some(origin) = headers.get(ORIGIN) else {
        // An image or a form of another site sends no origin, but modern browsers tell where it stands.
        let site = headers.get(SEC_FETCH_SITE).map(http::HeaderValue::as_bytes);
        let foreign = matches!(site, Some(b"cross-site" | b"same-site"));
        return if foreign { Err(ForeignOrigin { origin: "", host }) } else { Ok(()) };
    };
    let origin = origin.to_str().unwrap_or_default();
    let forwarded = config.trusted_proxies.forwarded_host(peer, headers);
    let own = is_host(origin, host) || forwarded.is_some_and(|host| is_host(origin, host));
    if own || is_named(config, origin) { Ok(()) } else { Err(ForeignOrigin { origin, host }) }
}

fn is_named(config: &Config, origin: &str) -> bool {
    let named = match &config.cors {
        Cors::Origins { origins, .. } => origins.as_slice(),
        Cors::Rules(rules) if rules.names(origin) => return true,
        Cors::Off | Cors::Any | Cors::Rules(_) => &[],
    };
    config.allowed_origins.iter().chain(named).any(|name| name.eq_ignore_ascii_case(origin))
}

/// Whether an origin is that of a page which was fetched from this host
///
/// The scheme is not compared: behind a proxy that ends TLS it is not known. A host without port has the one that
/// is usual for the origin's scheme.
fn is_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let usual = match scheme {
        "http" | "ws" => "80",
        "https" | "wss" => "443",
        _ => return false,
    };
    let (origin_name, origin_port) = split_port(authority);
    let (host_name, host_port) = split_port(host);
    !host_name.is_empty()
        && origin_name.eq_ignore_ascii_case(host_name)
        && origin_port.unwrap_or(usual) == host_port.unwrap_or(usual)
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        // The last colon inside brackets belongs to an IPv6 address.
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cors::CorsRules;

    fn is_let_in(config: &Config, headers: &[(&'static str, &'static str)]) -> bool {
        let peer = Peer { address: "10.0.0.1:1".parse().expect("an address"), secure: false };
        let mut map = HeaderMap::new();
        map.insert(HOST, http::HeaderValue::from_static("chat.example"));
        for (name, value) in headers {
            map.insert(*name, http::HeaderValue::from_static(value));
        }
        check(config, Some(peer), &map).is_ok()
    }

    const COOKIES: (&str, &str) = ("cookie", "session=secret");

    #[test]
    fn cve_2019_13611_a_foreign_page_cannot_use_the_cookies_of_a_visitor() {
        let config = Config::default();
        for origin in [
            "https://evil.example",
            "https://chat.example.evil.example",
            "null",
            "",
            "file://",
            "https://chat.example:444",
            "https://evil.example/chat.example",
            "chat.example",
            "://chat.example",
            "https://chat.example@evil.example",
            "https://sub.chat.example",
        ] {
            assert!(!is_let_in(&config, &[COOKIES, ("origin", origin)]), "{origin}");
            assert!(!is_let_in(&config, &[("authorization", "Basic eA=="), ("origin", origin)]), "{origin}");
            assert!(is_let_in(&config, &[("origin", origin)]), "{origin} without cookies");
        }
    }

    #[test]
    fn pages_of_the_server_itself_and_programs_come_in_with_cookies() {
        let config = Config::default();
        for origin in [
            "https://chat.example",
            "http://chat.example",
            "https://CHAT.example",
            "https://chat.example:443",
        ] {
            assert!(is_let_in(&config, &[COOKIES, ("origin", origin)]), "{origin}");
        }
        assert!(is_let_in(&config, &[COOKIES]));
        for (host, origin) in [
            ("chat.example:3000", "http://chat.example:3000"),
            ("[::1]:3000", "http://[::1]:3000"),
            ("[::1]", "http://[::1]"),
            ("chat.example:443", "https://chat.example"),
        ] {
            assert!(is_let_in(&config, &[COOKIES, ("host", host), ("origin", origin)]), "{host}");
        }
        assert!(!is_let_in(&config, &[COOKIES, ("host", "[::1]:3000"), ("origin", "http://[::1]")]));
        assert!(!is_let_in(&config, &[COOKIES, ("host", ""), ("origin", "http://")]));
    }

    #[test]
    fn what_a_foreign_page_embeds_is_known_by_its_site() {
        let config = Config::default();
        for (site, expected) in
            [("cross-site", false), ("same-site", false), ("same-origin", true), ("none", true)]
        {
            assert_eq!(is_let_in(&config, &[COOKIES, ("sec-fetch-site", site)]), expected, "{site}");
        }
        assert!(is_let_in(&config, &[("sec-fetch-site", "cross-site")]));
    }

    #[test]
    fn origins_that_are_named_come_in() {
        let page = [COOKIES, ("origin", "https://app.example")];
        assert!(is_let_in(&Config::default().allow_origin("https://app.example"), &page));
        assert!(is_let_in(&Config::default().allow_origin("https://app.example/"), &page));
        assert!(!is_let_in(&Config::default().allow_origin("http://app.example"), &page));
        let origins = vec!["https://app.example".into()];
        assert!(is_let_in(&Config::default().cors(Cors::Origins { origins, credentials: true }), &page));
        assert!(!is_let_in(&Config::default().cors(Cors::Any), &page));
        let ours = CorsRules::matching(|origin| origin.ends_with("app.example"));
        assert!(is_let_in(&Config::default().cors(ours), &page));
        for others in [CorsRules::any(), CorsRules::mirrored(), CorsRules::origins(["https://b.example"])] {
            assert!(!is_let_in(&Config::default().cors(others), &page));
        }
    }

    #[test]
    fn the_other_policies_are_stricter_and_laxer() {
        let foreign = [("origin", "https://evil.example")];
        let strict = Config::default().origins(Origins::Same);
        assert!(!is_let_in(&strict, &foreign));
        assert!(is_let_in(&strict, &[("origin", "https://chat.example")]));
        assert!(is_let_in(&strict, &[]));
        let lax = Config::default().origins(Origins::Any);
        assert!(is_let_in(&lax, &[COOKIES, foreign[0]]));
    }

    #[test]
    fn the_host_that_a_proxy_forwards_counts_if_the_proxy_is_trusted() {
        let page = [
            COOKIES,
            ("host", "backend:3000"),
            ("x-forwarded-host", "chat.example"),
            ("origin", "https://chat.example"),
        ];
        assert!(!is_let_in(&Config::default(), &page));
        let trusted: ipnet::IpNet = "10.0.0.0/8".parse().expect("a network");
        assert!(is_let_in(&Config::default().trusted_proxies([trusted]), &page));
    }
}
