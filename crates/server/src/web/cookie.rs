//! Session cookie of polling clients

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use roomcast_core::Sid;

/// Session id cookie, for sticky load balancing.
///
/// Set on the first response of a session that begins by long-polling, as on Node; a session that begins on WebSocket
/// has a single connection and needs none. It contains the secret session id, so keep it `HttpOnly`.
///
/// ```
/// use roomcast_server::http::Cookie;
/// use roomcast_server::Config;
///
/// let config = Config::new().http(|http| http.cookie(Cookie::new("io").secure(true)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Cookie {
    name: String,
    path: String,
    domain: Option<String>,
    max_age: Option<Duration>,
    expires: Option<SystemTime>,
    http_only: bool,
    secure: bool,
    partitioned: bool,
    priority: Option<Priority>,
    same_site: Option<SameSite>,
}

/// `SameSite` attribute of a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SameSite {
    /// Same-site requests only
    Strict,
    /// Same-site requests, and links from other sites
    Lax,
    /// All requests, as needed by pages of other sites; browsers require [`Cookie::secure`] for it
    None,
}

/// The last second of the year 9999
const END_OF_DATES: Duration = Duration::from_secs(253_402_300_799);

/// Eviction priority in browsers with too many cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Priority {
    /// Dropped before others
    Low,
    /// Default
    Medium,
    /// Dropped after others
    High,
}

impl Cookie {
    /// Creates a cookie of this name; Node uses `io`.
    ///
    /// Defaults: path `/`, `HttpOnly`, `SameSite=Lax`, until the browser is closed.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            path: "/".into(),
            domain: None,
            max_age: None,
            expires: None,
            http_only: true,
            secure: false,
            partitioned: false,
            priority: None,
            same_site: Some(SameSite::Lax),
        }
    }

    /// Sets the path for which it is sent. Default: `/`.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Sets the domain to which it is sent. Default: the host that set it.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Sets its lifetime, in whole seconds. Default: until the browser is closed.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Sets its expiry, in whole seconds. Default: until the browser is closed.
    ///
    /// [`max_age`](Self::max_age) takes precedence.
    pub fn expires(mut self, at: SystemTime) -> Self {
        // Clamped to dates that the format can express.
        self.expires = Some(at.clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + END_OF_DATES));
        self
    }

    /// Sets whether scripts are denied access. Default: yes.
    pub fn http_only(mut self, http_only: bool) -> Self {
        self.http_only = http_only;
        self
    }

    /// Sets whether it is sent over TLS only. Default: no.
    pub fn secure(mut self, secure: bool) -> Self {
        self.secure = secure;
        self
    }

    /// Sets whether embedded pages get a separate cookie per embedding site. Default: no.
    ///
    /// Browsers require [`secure`](Self::secure) for it.
    pub fn partitioned(mut self, partitioned: bool) -> Self {
        self.partitioned = partitioned;
        self
    }

    /// Sets its eviction priority. Default: up to the browser.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Sets the `SameSite` attribute; `None` omits it. Default: [`SameSite::Lax`].
    pub fn same_site(mut self, same_site: impl Into<Option<SameSite>>) -> Self {
        self.same_site = same_site.into();
        self
    }

    /// Checks that browsers can read the header (RFC 6265 section 4.1.1).
    ///
    /// # Errors
    /// Returns a description of the invalid attribute.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self { name, path, domain, secure, partitioned, same_site, .. } = self;
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(format!(
                "has the name {name:?}, which may be letters, digits and !#$%&'*+-.^_`|~, as in `io`"
            ));
        }
        let is_value = |text: &str| text.bytes().all(|byte| (b' '..0x7f).contains(&byte) && byte != b';');
        if !path.starts_with('/') || !is_value(path) {
            return Err(format!("has the path {path:?}, which begins with `/` and has no `;`"));
        }
        if let Some(domain) = domain.as_deref().filter(|domain| domain.is_empty() || !is_value(domain)) {
            return Err(format!("has the domain {domain:?}, which is like `chat.example`"));
        }
        if !secure && (*partitioned || *same_site == Some(SameSite::None)) {
            return Err("has SameSite=None or Partitioned without Secure, and no browser keeps that; add secure(true)".into());
        }
        let prefixed =
            |prefix: &str| name.get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix));
        let bound = path == "/" && domain.is_none();
        if prefixed("__Secure-") && !secure || prefixed("__Host-") && !(*secure && bound) {
            return Err(format!(
                "has the name {name:?}, and browsers keep it with Secure alone, and `__Host-` with Path=/ and no Domain"
            ));
        }
        Ok(())
    }

    /// Returns the `Set-Cookie` value; `None` if name, path or domain is invalid.
    pub(crate) fn header(&self, sid: &Sid) -> Option<HeaderValue> {
        let mut text = format!("{}={}; Path={}", self.name, sid.expose(), self.path);
        if let Some(domain) = &self.domain {
            let _ = write!(text, "; Domain={domain}");
        }
        if let Some(age) = self.max_age {
            let _ = write!(text, "; Max-Age={}", age.as_secs());
        }
        if let Some(at) = self.expires {
            let _ = write!(text, "; Expires={}", httpdate::fmt_http_date(at));
        }
        if self.http_only {
            text.push_str("; HttpOnly");
        }
        if self.secure {
            text.push_str("; Secure");
        }
        if self.partitioned {
            text.push_str("; Partitioned");
        }
        if let Some(priority) = self.priority {
            let _ = write!(text, "; Priority={priority:?}");
        }
        if let Some(same_site) = self.same_site {
            let _ = write!(text, "; SameSite={same_site:?}");
        }
        HeaderValue::try_from(text).ok().map(|mut header| {
            header.set_sensitive(true);
            header
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_matches_node() {
        let header = Cookie::new("io").header(&Sid::new("abc")).expect("a header");
        assert_eq!(header, "io=abc; Path=/; HttpOnly; SameSite=Lax");
    }

    #[test]
    fn header_contains_all_attributes() {
        let cookie = Cookie::new("c").path("/x").domain("example.org").max_age(Duration::from_secs(60));
        let cookie = cookie.http_only(false).secure(true).same_site(SameSite::None);
        let header = cookie.header(&Sid::new("abc")).expect("a header");
        assert_eq!(header, "c=abc; Path=/x; Domain=example.org; Max-Age=60; Secure; SameSite=None");
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let cookie = Cookie::new("c").expires(until).partitioned(true).priority(Priority::High);
        let header = cookie.same_site(None).header(&Sid::new("abc")).expect("a header");
        let expected =
            "c=abc; Path=/; Expires=Sun, 06 Nov 1994 08:49:37 GMT; HttpOnly; Partitioned; Priority=High";
        assert_eq!(header, expected);
        assert!(Cookie::new("a\nb").header(&Sid::new("abc")).is_none());
    }

    #[test]
    fn rejects_cookies_browsers_would_discard() {
        let io = || Cookie::new("io");
        for good in [
            io(),
            io().path("/chat").domain("chat.example"),
            io().secure(true).same_site(SameSite::None).partitioned(true),
            io().same_site(None),
            Cookie::new("__Host-io").secure(true),
        ] {
            assert_eq!(good.check(), Ok(()), "{good:?}");
        }
        for name in ["", "a b", "a;b", "a=b", "a\nb", "a,b", "\"a\"", "h\u{e9}", "a\u{7f}"] {
            let problem = Cookie::new(name).check().expect_err(name);
            assert!(problem.contains("name"), "{problem}");
        }
        for (bad, repair) in [
            (io().path("chat"), "begins with `/`"),
            (io().path("/a;b"), "no `;`"),
            (io().domain("a; Secure"), "chat.example"),
            (io().same_site(SameSite::None), "secure(true)"),
            (io().partitioned(true), "secure(true)"),
            (Cookie::new("__Secure-io"), "Secure"),
            (Cookie::new("__host-io").secure(true).path("/x"), "Path=/"),
        ] {
            let problem = bad.check().expect_err(repair);
            assert!(problem.contains(repair), "{problem}");
        }
    }
}
