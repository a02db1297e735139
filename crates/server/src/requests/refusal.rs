//! What a request is told that Engine.IO refuses

use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use roomcast_core::ResponseBody;

use crate::origin::REPAIR;

/// Why a request is refused, by the table of the Engine.IO protocol
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownTransport,
    UnknownSession,
    BadMethod,
    BadRequest,
    ForeignOrigin,
    UnsupportedVersion,
}

impl Refusal {
    fn code(self) -> u8 {
        match self {
            Self::UnknownTransport => 0,
            Self::UnknownSession => 1,
            Self::BadMethod => 2,
            Self::BadRequest => 3,
            Self::ForeignOrigin => 4,
            Self::UnsupportedVersion => 5,
        }
    }

    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::UnknownTransport => "Transport unknown",
            Self::UnknownSession => "Session ID unknown",
            Self::BadMethod => "Bad handshake method",
            Self::BadRequest => "Bad request",
            Self::ForeignOrigin => REPAIR,
            Self::UnsupportedVersion => "Unsupported protocol version",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::ForeignOrigin => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The answer; one that asked for an upgrade hears it as plain text, since no client reads a body there
    pub(crate) fn response(self, upgrades: bool) -> Response<ResponseBody> {
        let (body, kind) = if upgrades {
            (ResponseBody::from(self.message()), "text/html")
        } else {
            let json = format!(r#"{{"code":{},"message":"{}"}}"#, self.code(), self.message());
            (ResponseBody::from(json), "application/json")
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if upgrades {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The session is on another transport
pub(crate) fn mismatch(upgrades: bool) -> Response<ResponseBody> {
    Refusal::BadRequest.response(upgrades)
}

/// There is no such session, or no longer
pub(crate) fn unknown_session() -> Response<ResponseBody> {
    Refusal::UnknownSession.response(false)
}
