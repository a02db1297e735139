//! Cross-origin requests: which pages may read the answers

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, CONTENT_LENGTH, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use roomcast_core::ResponseBody;

use crate::host::config::Config;
use crate::web::cors::{Allowed, Cors, CorsRules, Matching};
use crate::web::origin::normalise;

/// Answers the question a browser asks before it sends a cross-origin request; `None` if this is no such question
pub(super) fn preflight<B>(config: &Config, request: &Request<B>) -> Option<Response<ResponseBody>> {
    let off = config.http.cors == Cors::Off && config.http.allowed_origins.is_empty();
    if off || request.method() != Method::OPTIONS {
        return None;
    }
    let rules = match &config.http.cors {
        Cors::Rules(rules) => Some(rules),
        _ => None,
    };
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = rules.map_or(StatusCode::NO_CONTENT, |rules| rules.preflight_status);
    let headers = response.headers_mut();
    let allowed = allow(config, request.headers().get(ORIGIN), headers);
    if allowed {
        const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE");
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, rules.map_or(METHODS, |rules| rules.methods.clone()));
        if let Some(age) = rules.and_then(|rules| rules.max_age) {
            headers.insert(ACCESS_CONTROL_MAX_AGE, age.as_secs().into());
        }
    }
    let fixed = rules.and_then(|rules| rules.allowed_headers.clone());
    if fixed.is_none() {
        headers.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    }
    let asked = || request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    if let Some(names) = fixed.or_else(asked).filter(|_| allowed) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    if response.status() != StatusCode::NO_CONTENT {
        // Some old browsers wait for a body otherwise.
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Some(response)
}

/// Says on an answer who may read it; tells whether this origin may
pub(super) fn allow(config: &Config, origin: Option<&HeaderValue>, headers: &mut HeaderMap) -> bool {
    if !config.http.allowed_origins.is_empty() {
        headers.append(VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = origin.filter(|origin| is_among(&config.http.allowed_origins, origin)) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            return true;
        }
    }
    match &config.http.cors {
        Cors::Off => false,
        Cors::Any => {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            true
        }
        Cors::Origins { origins, credentials } => {
            let named = named(origins, origin, headers);
            name(named, *credentials, None, headers)
        }
        Cors::Rules(rules) => allow_by(rules, origin, headers),
    }
}

fn allow_by(rules: &CorsRules, origin: Option<&HeaderValue>, headers: &mut HeaderMap) -> bool {
    let named = match &rules.origin {
        Allowed::Any => Some(HeaderValue::from_static("*")),
        Allowed::Mirrored => {
            headers.append(VARY, HeaderValue::from_static("Origin"));
            origin.cloned()
        }
        Allowed::Named(origins) => named(origins, origin, headers),
        Allowed::Matching(Matching(fits)) => {
            headers.append(VARY, HeaderValue::from_static("Origin"));
            origin.filter(|origin| normal(origin).is_some_and(|origin| fits(&origin))).cloned()
        }
    };
    name(named, rules.credentials, rules.exposed_headers.as_ref(), headers)
}

/// Which of these an answer is for
fn named(origins: &[String], origin: Option<&HeaderValue>, headers: &mut HeaderMap) -> Option<HeaderValue> {
    // Said to everybody, since a cache may give one origin's answer to another.
    headers.append(VARY, HeaderValue::from_static("Origin"));
    match origins {
        // The only one there is can be named to everybody, as on Node: it lets nobody else in.
        [only] => HeaderValue::from_str(only).ok(),
        several => origin.filter(|origin| is_among(several, origin)).cloned(),
    }
}

fn is_among(origins: &[String], origin: &HeaderValue) -> bool {
    // Browsers send the normal form, and each poll has one.
    origins.iter().any(|known| *known == *origin)
        || normal(origin).is_some_and(|origin| origins.contains(&origin))
}

/// The normal form of what a browser sends, in which settings are too
fn normal(origin: &HeaderValue) -> Option<String> {
    normalise(origin.to_str().ok()?).ok()
}

fn name(
    origin: Option<HeaderValue>,
    credentials: bool,
    exposed: Option<&HeaderValue>,
    headers: &mut HeaderMap,
) -> bool {
    let Some(origin) = origin else { return false };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    if let Some(exposed) = exposed {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
    }
    true
}
