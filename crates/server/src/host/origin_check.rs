//! Origin check by the server's settings

use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use http::{HeaderMap, HeaderName};

use crate::host::config::Config;
use crate::web::cors::Allowed;
use crate::web::forwarded::X_FORWARDED_HOST;
use crate::web::origin::{OriginPolicy, authority, normalise, split_port};
use crate::web::peer::Peer;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Page refused by the origin check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignOrigin<'a> {
    /// Origin; empty if the browser sent none
    pub(crate) origin: &'a str,
    /// `Host` of the request
    pub(crate) host: &'a str,
    /// Setting that would allow the page
    pub(crate) fix: Cow<'static, str>,
}

/// Checks whether the page behind a request may use this server.
pub(crate) fn check<'a>(
    config: &Config,
    peer: Option<Peer>,
    headers: &'a HeaderMap,
) -> Result<(), ForeignOrigin<'a>> {
    let carries_identity = || headers.contains_key(COOKIE) || headers.contains_key(AUTHORIZATION);
    let policy = config.http.cors.policy;
    if policy == OriginPolicy::Any || policy == OriginPolicy::SameOrCookieless && !carries_identity() {
        return Ok(());
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let Some(origin) = headers.get(ORIGIN) else {
        // Images and forms of other sites send no origin, but modern browsers send their site relation.
        let site = headers.get(SEC_FETCH_SITE).map(http::HeaderValue::as_bytes);
        let foreign = matches!(site, Some(b"cross-site" | b"same-site"));
        let fix = "the request has no Origin: it is none of a script, and another site embeds it".into();
        return if foreign { Err(ForeignOrigin { origin: "", host, fix }) } else { Ok(()) };
    };
    let sent = origin.to_str().unwrap_or_default();
    // Nearly all pages are the server's own; normalising each origin took 8 % of accepting a connection.
    if is_exactly_host(sent, host) {
        return Ok(());
    }
    let origin = normalise(sent).ok();
    let forwarded = config.http.trusted_proxies.forwarded_host(peer, headers);
    let is_let_in = |origin: &str| {
        is_host(origin, host)
            || forwarded.is_some_and(|host| is_host(origin, host))
            || is_listed(config, origin, true)
    };
    if origin.as_deref().is_some_and(is_let_in) {
        return Ok(());
    }
    let fix = fix(config, peer, headers, origin.as_deref(), forwarded.unwrap_or(host));
    Err(ForeignOrigin { origin: sent, host, fix })
}

/// Returns whether the settings list an origin, in normal form, with credentials, or without.
fn is_listed(config: &Config, origin: &str, credentials: bool) -> bool {
    let cors = &config.http.cors;
    cors.credentials == credentials && cors.lists(origin)
        || credentials && cors.trusted.iter().any(|name| name == origin)
}

/// Returns the setting that would allow an operator's own page; never one already set.
fn fix(
    config: &Config,
    peer: Option<Peer>,
    headers: &HeaderMap,
    origin: Option<&str>,
    host: &str,
) -> Cow<'static, str> {
    let Some(origin) = origin else { return "no browser sends such an origin".into() };
    if origin == "null" {
        return "the page has no origin of its own, as in a sandboxed frame or from a file; serve it over HTTP".into();
    }
    let claimed = headers.get_all(X_FORWARDED_HOST).into_iter().next_back();
    let claimed = claimed.and_then(|host| host.to_str().ok()).and_then(|hosts| hosts.rsplit(',').next());
    if claimed.is_some_and(|host| is_host(origin, host.trim()))
        && !peer.is_some_and(|peer| config.http.trusted_proxies.trusts(peer.address.ip()))
    {
        return match peer {
            Some(peer) => format!(
                "X-Forwarded-Host fits but comes from a proxy that is not trusted; trust {} with \
                 HttpConfig::trusted_proxies, or --trusted-proxy",
                peer.address.ip()
            )
            .into(),
            None => "X-Forwarded-Host fits but the address of the proxy is not known; put a Peer into the extensions \
                     of the request, or serve with axum's ConnectInfo<SocketAddr>"
                .into(),
        };
    }
    if is_listed(config, origin, false) {
        return "CORS lets this origin in without cookies only; Cors::allow_origin, or --allow-origin, lets it in \
                with them"
            .into();
    }
    let same_name = authority(origin).is_some_and(|(name, _)| name.eq_ignore_ascii_case(split_port(host).0));
    if same_name {
        return "the port differs: a reverse proxy has to pass on the whole Host header (nginx: proxy_set_header Host \
                $http_host), or allow the origin with Cors::allow_origin, or --allow-origin"
            .into();
    }
    "if the page is yours, allow its origin with Cors::allow_origin, or --allow-origin; if it is the server's own, a \
     reverse proxy has to pass on the Host header (nginx: proxy_set_header Host $http_host)"
        .into()
}

/// Returns whether a normalised origin belongs to a page served from this host.
///
/// The scheme is ignored: behind a TLS-terminating proxy it is unknown. A host without port has the default one of the
/// origin's scheme.
fn is_host(origin: &str, host: &str) -> bool {
    let Some((name, port)) = authority(origin) else { return false };
    let (host, host_port) = split_port(host);
    let usual = if origin.starts_with("https:") { 443 } else { 80 };
    let host_port = host_port.map_or(Some(usual), |port| port.parse().ok());
    name.eq_ignore_ascii_case(host) && host_port == Some(port)
}

/// Returns whether an origin is in normal form, except for a default port, and names exactly this host.
///
/// It then belongs to a page served from this host; `false` says nothing.
fn is_exactly_host(origin: &str, host: &str) -> bool {
    let named = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    if named != Some(host) {
        return false;
    }
    let (name, port) = split_port(host);
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    // A label in Punycode may be invalid.
    !name.is_empty() && name.bytes().all(is_plain) && !name.contains("xn--") && port.is_none_or(is_port)
}

/// Puts the origins in the settings into their normal form.
///
/// # Errors
///
/// Returns the setting and the reason, if an origin can never match.
pub(crate) fn normalise_settings(config: &mut Config) -> Result<(), (&'static str, String)> {
    const ANY: &str = "every page is let in with `OriginPolicy::Any`, or `--origin-policy any`";
    const READ: &str = "every page may read answers with `Cors::any`, or `--cors '*'` alone";
    let all = |names: &mut Vec<String>, any: &str| {
        for name in names {
            if name.trim() == "*" {
                return Err(format!("`*` is no origin; {any}"));
            }
            *name = normalise(name)?;
        }
        Ok(())
    };
    let cors = &mut config.http.cors;
    all(&mut cors.trusted, ANY).map_err(|problem| ("allow_origin", problem))?;
    match &mut cors.listed {
        Allowed::Named(origins) => all(origins, READ).map_err(|problem| ("cors", problem)),
        Allowed::None | Allowed::Any | Allowed::Mirrored | Allowed::Matching(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::web::cors::Cors;

    fn is_let_in(config: &Config, headers: &[(&'static str, &'static str)]) -> bool {
        checked(config, headers).is_ok()
    }

    fn fix_for(config: &Config, headers: &[(&'static str, &'static str)]) -> String {
        checked(config, headers).expect_err("a foreign page")
    }

    fn checked(config: &Config, headers: &[(&'static str, &'static str)]) -> Result<(), String> {
        let mut config = config.clone();
        normalise_settings(&mut config).expect("valid origins");
        let peer = Peer { address: "10.0.0.1:1".parse().expect("an address"), secure: false };
        let mut map = HeaderMap::new();
        map.insert(HOST, http::HeaderValue::from_static("chat.example"));
        for (name, value) in headers {
            map.insert(*name, http::HeaderValue::from_static(value));
        }
        check(&config, Some(peer), &map).map_err(|foreign| foreign.fix.into_owned())
    }

    proptest! {
        #[test]
        fn exact_host_is_accepted_in_normal_form(
            host in "(xn--)?[a-zA-Z0-9.\\-\\[:]{0,6}(:[0-9+]{0,6})?",
            scheme in "https?|ws|file",
        ) {
            let origin = format!("{scheme}://{host}");
            if is_exactly_host(&origin, &host) {
                let normal = normalise(&origin);
                prop_assert!(normal.is_ok_and(|origin| is_host(&origin, &host)), "{}", origin);
            }
        }
    }

    #[test]
    fn exact_host_needs_no_normal_form() {
        for (origin, host, exact) in [
            ("http://chat.example", "chat.example", true),
            ("https://chat.example:8443", "chat.example:8443", true),
            ("https://chat.example", "chat.example:443", false),
            ("http://Chat.example", "Chat.example", false),
            ("http://", "", false),
            ("http://xn--a", "xn--a", false),
            ("ws://chat.example", "chat.example", false),
            ("http://user@chat.example", "user@chat.example", false),
        ] {
            assert_eq!(is_exactly_host(origin, host), exact, "{origin}");
        }
    }

    const COOKIES: (&str, &str) = ("cookie", "session=secret");

    #[test]
    fn cve_2019_13611_rejects_cross_site_cookies() {
        let config = Config::new();
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
    fn allows_same_origin_and_non_browsers() {
        let config = Config::new();
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
    fn detects_embedded_requests_by_fetch_site() {
        let config = Config::new();
        for (site, expected) in
            [("cross-site", false), ("same-site", false), ("same-origin", true), ("none", true)]
        {
            assert_eq!(is_let_in(&config, &[COOKIES, ("sec-fetch-site", site)]), expected, "{site}");
        }
        assert!(is_let_in(&config, &[("sec-fetch-site", "cross-site")]));
    }

    #[test]
    fn allows_listed_origins() {
        let page = [COOKIES, ("origin", "https://app.example")];
        assert!(is_let_in(
            &Config::new().http(|http| http.cors(Cors::new().allow_origin("https://app.example"))),
            &page
        ));
        assert!(is_let_in(
            &Config::new().http(|http| http.cors(Cors::new().allow_origin("https://app.example/"))),
            &page
        ));
        assert!(!is_let_in(
            &Config::new().http(|http| http.cors(Cors::new().allow_origin("http://app.example"))),
            &page
        ));
        for spelling in [" https://app.example:443/ ", "HTTPS://App.Example"] {
            assert!(
                is_let_in(&Config::new().http(|http| http.cors(Cors::new().allow_origin(spelling))), &page),
                "{spelling}"
            );
        }
        let file = [COOKIES, ("origin", "file://")];
        assert!(is_let_in(
            &Config::new().http(|http| http.cors(Cors::new().allow_origin("file:///"))),
            &file
        ));
        assert!(!is_let_in(&Config::new(), &file));
        let cors = |credentials| Cors::origins(["https://app.example"]).credentials(credentials);
        assert!(is_let_in(&Config::new().http(|http| http.cors(cors(true))), &page));
        assert!(!is_let_in(&Config::new().http(|http| http.cors(Cors::any())), &page));
        let ours = Cors::matching(|origin| origin.ends_with("app.example"));
        assert!(is_let_in(&Config::new().http(|http| http.cors(ours.clone().credentials(true))), &page));
        // Without cookies, as configured.
        for without in [cors(false), ours] {
            assert!(!is_let_in(&Config::new().http(|http| http.cors(without.clone())), &page));
            assert!(is_let_in(&Config::new().http(|http| http.cors(without)), &[page[1]]));
        }
        for others in [Cors::any(), Cors::mirrored(), Cors::origins(["https://b.example"])] {
            assert!(!is_let_in(&Config::new().http(|http| http.cors(others)), &page));
        }
    }

    #[test]
    fn applies_strict_and_lax_policies() {
        let foreign = [("origin", "https://evil.example")];
        let strict = Config::new().http(|http| http.cors(Cors::new().origin_policy(OriginPolicy::Same)));
        assert!(!is_let_in(&strict, &foreign));
        assert!(is_let_in(&strict, &[("origin", "https://chat.example")]));
        assert!(is_let_in(&strict, &[]));
        let lax = Config::new().http(|http| http.cors(Cors::new().origin_policy(OriginPolicy::Any)));
        assert!(is_let_in(&lax, &[COOKIES, foreign[0]]));
    }

    #[test]
    fn honors_forwarded_host_of_trusted_proxy() {
        let page = [
            COOKIES,
            ("host", "backend:3000"),
            ("x-forwarded-host", "chat.example"),
            ("origin", "https://chat.example"),
        ];
        assert!(!is_let_in(&Config::new(), &page));
        let trusted: ipnet::IpNet = "10.0.0.0/8".parse().expect("a network");
        assert!(is_let_in(&Config::new().http(|http| http.trusted_proxies([trusted])), &page));
    }

    #[test]
    fn fix_fits_the_cause() {
        let config = Config::new();
        let page = ("origin", "https://chat.example:8443");
        assert!(fix_for(&config, &[COOKIES, page]).contains("Host $http_host"));
        let elsewhere = [COOKIES, ("origin", "https://app.example")];
        assert!(fix_for(&config, &elsewhere).contains("--allow-origin"));
        let cors = Config::new().http(|http| http.cors(Cors::origins(["https://app.example"])));
        assert!(fix_for(&cors, &elsewhere).contains("without cookies"));
        let proxied = [("x-forwarded-host", "app.example"), COOKIES, elsewhere[1]];
        assert!(fix_for(&config, &proxied).contains("--trusted-proxy"));
        assert!(fix_for(&config, &[COOKIES, ("origin", "null")]).contains("sandboxed"));
        let trusted: ipnet::IpNet = "10.0.0.0/8".parse().expect("a network");
        let trusting = Config::new().http(|http| http.trusted_proxies([trusted]));
        let other = [("x-forwarded-host", "other.example"), COOKIES, elsewhere[1]];
        assert!(!fix_for(&trusting, &other).contains("--trusted-proxy"), "it is set already");
    }

    #[test]
    fn rejects_origin_that_cannot_match() {
        let refused = |mut config: Config| normalise_settings(&mut config).expect_err("it cannot match");
        let (setting, problem) = refused(
            Config::new().http(|http| http.cors(Cors::new().allow_origin("https://app.example/chat"))),
        );
        assert_eq!(setting, "allow_origin");
        assert!(problem.contains("write `https://app.example`"), "{problem}");
        assert!(
            refused(Config::new().http(|http| http.cors(Cors::new().allow_origin("*"))))
                .1
                .contains("--origin-policy any")
        );
        let (setting, problem) =
            refused(Config::new().http(|http| http.cors(Cors::origins(["app.example"]))));
        assert_eq!(setting, "cors");
        assert!(problem.contains("write `https://app.example`"), "{problem}");
        assert!(refused(Config::new().http(|http| http.cors(Cors::origins(["*"])))).1.contains("--cors '*'"));
    }
}
