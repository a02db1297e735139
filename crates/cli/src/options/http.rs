//! HTTP settings: origins, cookie, poll compression, proxies and client files.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use roomcast::Config;
use roomcast::http::{Cookie, Cors, HttpCompression, OriginPolicy, SameSite};

use super::units::size;

/// HTTP settings.
#[derive(Args, Debug)]
#[command(next_help_heading = "HTTP")]
pub(crate) struct Http {
    /// Origin allowed to connect with cookies, such as https://chat.example; may be repeated
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',', env = "ROOMCAST_ALLOW_ORIGIN")]
    allow_origin: Vec<String>,

    /// Origin allowed to read polling responses without cookies, or `*` for all; may be repeated. Requests with
    /// cookies need --allow-origin
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',', env = "ROOMCAST_CORS")]
    cors: Vec<String>,

    /// Policy for origins not allowed by name
    #[arg(long, value_name = "POLICY", value_enum, default_value = "same-or-cookieless")]
    #[arg(env = "ROOMCAST_ORIGIN_POLICY")]
    origin_policy: OriginPolicyOption,

    /// Name of a cookie with the session id, for sticky sessions at a load balancer. Default: no cookie
    #[arg(long, value_name = "NAME", env = "ROOMCAST_COOKIE")]
    cookie: Option<String>,

    /// SameSite attribute of the cookie; `none` also sets Secure
    #[arg(long, value_name = "MODE", value_enum, default_value = "lax", requires = "cookie")]
    #[arg(env = "ROOMCAST_COOKIE_SAME_SITE")]
    cookie_same_site: SameSiteOption,

    /// Minimum size of a polling response to compress, for clients that accept it; 0 disables compression
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = size::<usize>)]
    #[arg(env = "ROOMCAST_COMPRESS_POLLS")]
    compress_polls: usize,

    /// Address or network of proxies whose X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host headers are
    /// trusted; may be repeated. These headers are ignored from other peers
    #[arg(long, value_name = "NETWORK", value_delimiter = ',', value_parser = network)]
    #[arg(env = "ROOMCAST_TRUSTED_PROXY")]
    trusted_proxy: Vec<roomcast::http::IpNet>,

    /// Require a PROXY protocol header, version 1 or 2, from trusted proxies
    #[arg(long, requires = "trusted_proxy", env = "ROOMCAST_PROXY_PROTOCOL")]
    #[arg(value_parser = BoolishValueParser::new())]
    pub(crate) proxy_protocol: bool,

    /// Folder of the official browser clients, such as node_modules/socket.io/client-dist; served as
    /// /socket.io/socket.io.js and so on. Default: none
    #[arg(long, value_name = "FOLDER", env = "ROOMCAST_SERVE_CLIENT")]
    pub(crate) serve_client: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SameSiteOption {
    /// Same-site requests only
    Strict,
    /// Same-site requests, and top-level navigation from other sites
    Lax,
    /// All requests
    None,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OriginPolicyOption {
    /// The server's own origin, and other origins without cookies
    SameOrCookieless,
    /// The server's own origin only
    Same,
    /// Any origin, with cookies; safe only if cookies do not identify users
    Any,
}

impl Http {
    /// Applies the flags to `config`. With TLS the cookie is Secure.
    pub(crate) fn config(&self, config: Config, has_tls: bool) -> Config {
        let compression =
            (self.compress_polls > 0).then(|| HttpCompression::default().threshold(self.compress_polls));
        config.http(|http| {
            http.cors(self.cors())
                .cookie(self.cookie(has_tls))
                .compression(compression)
                .trusted_proxies(self.trusted_proxy.iter().copied())
        })
    }

    fn cors(&self) -> Cors {
        let cors = match self.cors.as_slice() {
            [] => Cors::new(),
            [origin] if origin.trim() == "*" => Cors::any(),
            origins => Cors::origins(origins),
        };
        let policy = match self.origin_policy {
            OriginPolicyOption::SameOrCookieless => OriginPolicy::SameOrCookieless,
            OriginPolicyOption::Same => OriginPolicy::Same,
            OriginPolicyOption::Any => OriginPolicy::Any,
        };
        self.allow_origin.iter().fold(cors.origin_policy(policy), Cors::allow_origin)
    }

    fn cookie(&self, has_tls: bool) -> Option<Cookie> {
        let same_site = match self.cookie_same_site {
            SameSiteOption::Strict => SameSite::Strict,
            SameSiteOption::Lax => SameSite::Lax,
            SameSiteOption::None => SameSite::None,
        };
        // Browsers reject `SameSite=None` cookies without Secure.
        let secure = has_tls || same_site == SameSite::None;
        self.cookie.as_ref().map(|name| Cookie::new(name).secure(secure).same_site(same_site))
    }
}

fn network(text: &str) -> Result<roomcast::http::IpNet, String> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(roomcast::http::IpNet::from));
    network.map_err(|_| "expected an address such as 10.0.0.1, or a network such as 10.0.0.0/8".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::Options;

    fn http(flags: &[&str]) -> Http {
        Options::try_parse_from([&["serve"], flags].concat()).expect("valid flags").http
    }

    #[test]
    fn matches_library_defaults() {
        assert_eq!(http(&[]).config(Config::new(), false), Config::new());
    }

    #[test]
    fn secures_cookie_for_other_sites() {
        let cookie = |flags: &[&str]| http(flags).cookie(false);
        assert_eq!(cookie(&[]), None);
        assert_eq!(cookie(&["--cookie=io"]), Some(Cookie::new("io")));
        let everywhere = Cookie::new("io").secure(true).same_site(SameSite::None);
        assert_eq!(cookie(&["--cookie=io", "--cookie-same-site=none"]), Some(everywhere));
        let strict = Cookie::new("io").same_site(SameSite::Strict);
        assert_eq!(cookie(&["--cookie=io", "--cookie-same-site=strict"]), Some(strict));
    }

    #[test]
    fn combines_origin_flags() {
        assert_eq!(http(&[]).cors(), Cors::new());
        assert_eq!(http(&["--cors=*"]).cors(), Cors::any());
        let flags = ["--cors=https://a.example", "--allow-origin=https://b.example", "--origin-policy=same"];
        let expected = Cors::origins(["https://a.example"])
            .origin_policy(OriginPolicy::Same)
            .allow_origin("https://b.example");
        assert_eq!(http(&flags).cors(), expected);
    }

    #[test]
    fn parses_addresses_and_networks() {
        for text in ["10.0.0.0/8", "10.0.0.1", "2001:db8::/32", "::1"] {
            assert!(network(text).is_ok(), "{text}");
        }
        for text in ["", "10.0.0.0/33", "localhost", "10.0.0", "10.0.0.1:80"] {
            assert!(network(text).is_err(), "{text}");
        }
    }
}
