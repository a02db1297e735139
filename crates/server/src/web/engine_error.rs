//! What a request is told that Engine.IO refuses

use std::borrow::Cow;

use http::header::{CONNECTION, CONTENT_TYPE, ORIGIN};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use roomcast_core::{ResponseBody, TransportName};
use serde_json::{Value, json};

use crate::web::engine_query::EngineQuery;
use crate::web::origin::REPAIR;

/// Why a request is refused, by the table of the Engine.IO protocol
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownTransport,
    UnknownSession,
    BadMethod,
    BadRequest(Bad),
    ForeignOrigin,
    /// The application does not let it in, and says why
    Forbidden(String),
    UnsupportedVersion,
}

/// What is bad about a request
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bad {
    Origin,
    /// The session is on this transport and not on the one that is named
    Mismatch(TransportName),
    Protocol,
    /// It is not how the transport that it names begins
    Handshake,
    /// As many requests of its session wait as may
    Crowded(usize),
    /// The application made no id for the session
    Id(Cow<'static, str>),
}

impl Refusal {
    /// Engine.IO's number for it
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

    /// Short name for the log, where the text of an application does not belong.
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

    /// What the client is told
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

    /// What was wrong, with the keys that Node's server has
    pub(crate) fn context(&self, request: &Parts) -> Value {
        let query = EngineQuery::parse(request.uri.query().unwrap_or_default());
        match self {
            Self::UnknownTransport => json!({ "transport": query.transport }),
            Self::UnknownSession => json!({ "sid": query.sid }),
            Self::BadMethod => json!({ "method": request.method.as_str() }),
            Self::BadRequest(Bad::Origin) => {
                let origin = request.headers.get(ORIGIN).map(HeaderValue::as_bytes).unwrap_or_default();
                json!({ "name": "INVALID_ORIGIN", "origin": String::from_utf8_lossy(origin) })
            }
            Self::BadRequest(Bad::Mismatch(previous)) => json!({
                "name": "TRANSPORT_MISMATCH",
                "transport": query.transport,
                "previousTransport": previous.0,
            }),
            Self::BadRequest(Bad::Protocol) => {
                json!({ "name": "PROTOCOL_MISMATCH", "protocol": query.version(), "previousProtocol": 4 })
            }
            Self::BadRequest(Bad::Handshake) => json!({ "name": "TRANSPORT_HANDSHAKE_ERROR" }),
            Self::BadRequest(Bad::Crowded(limit)) => json!({ "name": "TOO_MANY_REQUESTS", "limit": limit }),
            Self::BadRequest(Bad::Id(error)) => json!({ "name": "ID_GENERATION_ERROR", "error": error }),
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

    /// The answer to it
    ///
    /// A request that asked for an upgrade hears it as plain text, since no client reads a body there.
    pub(crate) fn response(&self, upgrades: bool) -> Response<ResponseBody> {
        let (body, kind) = if upgrades {
            (self.message().to_owned(), "text/html")
        } else {
            // The application's words may be anything; the others hold nothing that JSON would escape.
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

/// The session has ended, while the request was on its way to it
pub(crate) fn unknown_session() -> Response<ResponseBody> {
    Refusal::UnknownSession.response(false)
}
