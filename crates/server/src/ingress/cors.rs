//! CORS: preflight requests and response headers.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, CONTENT_LENGTH, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use roomcast_core::ResponseBody;

use crate::web::cors::{Allowed, Cors, Matching};
use crate::web::origin::normalise;

/// Returns the response to a preflight request, or `None` if it is none or CORS is off.
pub(super) fn preflight<B>(cors: &Cors, request: &Request<B>) -> Option<Response<ResponseBody>> {
    if cors.is_off() || request.method() != Method::OPTIONS {
        return None;
    }
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = cors.preflight_status;
    let headers = response.headers_mut();
    let allowed = allow(cors, request.headers().get(ORIGIN), headers);
    if allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, cors.methods.clone());
        if let Some(age) = cors.max_age {
            headers.insert(ACCESS_CONTROL_MAX_AGE, age.as_secs().into());
        }
    }
    let fixed = cors.allowed_headers.clone();
    if fixed.is_none() {
        headers.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    }
    let asked = || request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    if let Some(names) = fixed.or_else(asked).filter(|_| allowed) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    if cors.preflight_status != StatusCode::NO_CONTENT {
        // Some old browsers otherwise wait for a body.
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Some(response)
}

/// Adds the CORS headers, and returns whether the origin may read the response.
pub(super) fn allow(cors: &Cors, origin: Option<&HeaderValue>, headers: &mut HeaderMap) -> bool {
    let mut credentials = cors.credentials;
    let mut named = None;
    if !cors.trusted.is_empty() {
        headers.append(VARY, HeaderValue::from_static("Origin"));
        named = origin.filter(|origin| is_among(&cors.trusted, origin)).cloned();
        credentials |= named.is_some();
    }
    let Some(named) = named.or_else(|| listed(&cors.listed, origin, headers)) else { return false };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, named);
    if credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    if let Some(exposed) = &cors.exposed_headers {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
    }
    true
}

/// Returns the value of `Access-Control-Allow-Origin`, if any.
fn listed(listed: &Allowed, origin: Option<&HeaderValue>, headers: &mut HeaderMap) -> Option<HeaderValue> {
    if !matches!(listed, Allowed::None | Allowed::Any) {
        // Sent for all origins, since a cache may serve the response to another origin.
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    match listed {
        Allowed::None => None,
        Allowed::Any => Some(HeaderValue::from_static("*")),
        Allowed::Mirrored => origin.cloned(),
        Allowed::Named(origins) => match origins.as_slice() {
            // A single origin can be named to all, as on Node: no other origin matches it.
            [only] => HeaderValue::from_str(only).ok(),
            several => origin.filter(|origin| is_among(several, origin)).cloned(),
        },
        Allowed::Matching(Matching(fits)) => {
            origin.filter(|origin| normal(origin).is_some_and(|origin| fits(&origin))).cloned()
        }
    }
}

fn is_among(origins: &[String], origin: &HeaderValue) -> bool {
    // Fast path: browsers send the normal form, and each poll carries it.
    origins.iter().any(|known| *known == *origin)
        || normal(origin).is_some_and(|origin| origins.contains(&origin))
}

/// Returns the normal form of a browser's origin; settings are normalised too.
fn normal(origin: &HeaderValue) -> Option<String> {
    normalise(origin.to_str().ok()?).ok()
}
