//! Engine.IO error responses

use std::borrow::Cow;

use http::header::{CONNECTION, CONTENT_TYPE, ORIGIN};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use roomcast_core::{ResponseBody, TransportName};
use serde_json::{Value, json};

use crate::web::engine_query::EngineQuery;
use crate::web::origin::REPAIR;

/// Reason for refusing a request, by the table of the Engine.IO protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownTransport,
    UnknownSession,
    BadMethod,
    BadRequest(BadRequest),
    ForeignOrigin,
    /// Refused by the application, with its message
    Forbidden(String),
    UnsupportedVersion,
}

/// Detail of a bad request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BadRequest {
    Origin,
    /// The session uses this transport, not the requested one
    Mismatch(TransportName),
    Protocol,
    /// Not a valid first request of the transport
    Handshake,
    /// The session's request queue is full
    Crowded(usize),
    /// The application generated no session id
    Id(Cow<'static, str>),
}

impl Refusal {
    /// Returns Engine.IO's error code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::UnknownTransport => 0,
            Self::UnknownSession => 1,
            Self::BadMethod => 2,
            Self::BadRequest(_) => 3,
            Self::ForeignOrigin | Self::Forbidden(_) => 4,
            Self::UnsupportedVersion => 5,
        }
    }

    /// Returns a short name for the log, which excludes application text.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::UnknownTransport => "unknown_transport",
            Self::UnknownSession => "unknown_session",
            Self::BadMethod => "bad_method",
            Self::BadRequest(_) => "bad_request",
            Self::ForeignOrigin => "foreign_origin",
            Self::Forbidden(_) => "forbidden",
            Self::UnsupportedVersion => "unsupported_version",
        }
    }

    /// Returns the message for the client.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::UnknownTransport => "Transport unknown",
            Self::UnknownSession => "Session ID unknown",
            Self::BadMethod => "Bad handshake method",
            Self::BadRequest(_) => "Bad request",
            Self::ForeignOrigin => REPAIR,
            Self::Forbidden(text) if text.is_empty() => "Forbidden",
            Self::Forbidden(text) => text,
            Self::UnsupportedVersion => "Unsupported protocol version",
        }
    }

    /// Returns the details, with the keys of Node's server.
    pub(crate) fn context(&self, request: &Parts) -> Value {
        let query = EngineQuery::parse(request.uri.query().unwrap_or_default());
        match self {
            Self::UnknownTransport => json!({ "transport": query.transport }),
            Self::UnknownSession => json!({ "sid": query.sid }),
            Self::BadMethod => json!({ "method": request.method.as_str() }),
            Self::BadRequest(BadRequest::Origin) => {
                let origin = request.headers.get(ORIGIN).map(HeaderValue::as_bytes).unwrap_or_default();
                json!({ "name": "INVALID_ORIGIN", "origin": String::from_utf8_lossy(origin) })
            }
            Self::BadRequest(BadRequest::Mismatch(previous)) => json!({
                "name": "TRANSPORT_MISMATCH",
                "transport": query.transport,
                "previousTransport": previous.0,
            }),
            Self::BadRequest(BadRequest::Protocol) => {
                json!({ "name": "PROTOCOL_MISMATCH", "protocol": query.version(), "previousProtocol": 4 })
            }
            Self::BadRequest(BadRequest::Handshake) => json!({ "name": "TRANSPORT_HANDSHAKE_ERROR" }),
            Self::BadRequest(BadRequest::Crowded(limit)) => {
                json!({ "name": "TOO_MANY_REQUESTS", "limit": limit })
            }
            Self::BadRequest(BadRequest::Id(error)) => {
                json!({ "name": "ID_GENERATION_ERROR", "error": error })
            }
            Self::ForeignOrigin | Self::Forbidden(_) => json!({ "message": self.message() }),
            Self::UnsupportedVersion => json!({ "protocol": query.version() }),
        }
    }

    pub(crate) fn status(&self, upgrades: bool) -> StatusCode {
        match self {
            Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::Forbidden(_) if !upgrades => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Returns the error response.
    ///
    /// An upgrade request gets plain text, since no client reads a body there.
    pub(crate) fn response(&self, upgrades: bool) -> Response<ResponseBody> {
        let (body, kind) = if upgrades {
            (self.message().to_owned(), "text/html")
        } else {
            // Application text may need escaping; the other messages contain nothing that JSON escapes.
            let json = match self {
                Self::Forbidden(_) => Value::from(self.message()).to_string(),
                _ => format!(r#""{}""#, self.message()),
            };
            (format!(r#"{{"code":{},"message":{json}}}"#, self.code()), "application/json")
        };
        let mut response = Response::new(ResponseBody::from(body));
        *response.status_mut() = self.status(upgrades);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if upgrades {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Returns the response for a session that ended before its request was handled.
pub(crate) fn unknown_session() -> Response<ResponseBody> {
    Refusal::UnknownSession.response(false)
}
