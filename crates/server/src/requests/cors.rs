//! Cross-origin requests: which pages may read the answers

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_HEADERS, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use roomcast_core::ResponseBody;

use crate::config::{Config, Cors};

/// Answers the question a browser asks before it sends a cross-origin request; `None` if this is no such question
pub(super) fn preflight<B>(config: &Config, request: &Request<B>) -> Option<Response<ResponseBody>> {
    let off = config.cors == Cors::Off && config.allowed_origins.is_empty();
    if off || request.method() != Method::OPTIONS {
        return None;
    }
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    if allow(config, request.headers().get(ORIGIN), headers) {
        const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE");
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        if let Some(asked) = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
    }
    headers.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    Some(response)
}

/// Says on an answer who may read it; tells whether this origin may
pub(super) fn allow(config: &Config, origin: Option<&HeaderValue>, headers: &mut HeaderMap) -> bool {
    if !config.allowed_origins.is_empty() {
        headers.append(VARY, HeaderValue::from_static("Origin"));
        let allowed = |origin: &&HeaderValue| config.allowed_origins.iter().any(|known| *known == **origin);
        if let Some(origin) = origin.filter(allowed) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            return true;
        }
    }
    match &config.cors {
        Cors::Off => false,
        Cors::Any => {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            true
        }
        Cors::Origins { origins, credentials } => {
            // Said to everybody, since a cache may give one origin's answer to another.
            headers.append(VARY, HeaderValue::from_static("Origin"));
            let named = match origins.as_slice() {
                // The only one there is can be named to everybody, as on Node: it lets nobody else in.
                [only] => HeaderValue::from_str(only).ok(),
                several => origin.filter(|origin| several.iter().any(|known| *known == **origin)).cloned(),
            };
            let Some(named) = named else { return false };
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, named);
            if *credentials {
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
            true
        }
    }
}
