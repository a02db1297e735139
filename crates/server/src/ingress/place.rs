//! Reservation of a session within the limits.

use std::net::IpAddr;

use http::header::{CONNECTION, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use roomcast_core::Rejection;

use super::answer::{RETRY_AFTER as SECONDS, RefusalResponse};
use crate::app::model::io::Io;
use crate::host::lifecycle::Phase;
use crate::host::limit::{Limit, limit_exceeded};
use crate::web::handshake::Handshake;

/// Returns the response to a request whose session exceeds a limit.
pub(super) fn no_room(io: &Io, limit: Limit, address: Option<IpAddr>) -> RefusalResponse {
    if limit == Limit::Draining {
        // The shutdown is intended and may affect many clients, so it is not logged.
        let _ = io.metrics().limits_exceeded.record(limit);
    } else {
        let address = address.map(tracing::field::display);
        limit_exceeded!(io, limit, address, status = 503, "session refused");
    }
    let text = match limit {
        Limit::Draining => "This server is going away; connect to another.",
        _ => "There is no room for another session here; try again later.",
    };
    let rejection = Rejection::new(StatusCode::SERVICE_UNAVAILABLE, text)
        .header(RETRY_AFTER, HeaderValue::from_static(SECONDS))
        .header(CONNECTION, HeaderValue::from_static("close"));
    Box::new(rejection.response())
}

/// Reservation of a session; released on drop unless the session begins.
pub(super) struct SessionPlace<'a> {
    io: &'a Io,
    address: Option<IpAddr>,
    handshake_bytes: usize,
    kept: bool,
}

impl<'a> SessionPlace<'a> {
    pub(super) fn take(io: &'a Io, address: Option<IpAddr>) -> Result<Self, RefusalResponse> {
        let app = io.app();
        let draining = app.lifecycle.phase() >= Phase::Draining;
        let room = if draining { Err(Limit::Draining) } else { app.limits.begin_session(address) };
        match room {
            Ok(()) => Ok(Self { io, address, handshake_bytes: 0, kept: false }),
            Err(limit) => Err(no_room(io, limit, address)),
        }
    }

    /// Reserves the memory of the retained handshake.
    pub(super) fn take_handshake(&mut self, handshake: &Handshake) -> Result<(), RefusalResponse> {
        let (config, app) = (self.io.config(), self.io.app());
        let value = config.limits.max_handshake_bytes;
        if handshake.bytes() > value {
            let address = handshake.address_field();
            limit_exceeded!(self.io, Limit::HandshakeSize, address, value, status = 431, "session refused");
            const TEXT: &str = "The path and the headers of this request are too large.\n";
            let rejection = Rejection::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, TEXT)
                .header(CONNECTION, HeaderValue::from_static("close"));
            return Err(Box::new(rejection.response()));
        }
        let (own, shared) = (handshake.own_bytes(), app.header_names.bytes());
        if !app.limits.take_handshake(own, config.limits.max_handshakes_bytes.saturating_sub(shared)) {
            return Err(no_room(self.io, Limit::HandshakesSize, self.address));
        }
        self.handshake_bytes = own;
        Ok(())
    }

    /// Keeps the reservation until the session ends.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for SessionPlace<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let limits = &self.io.app().limits;
            limits.give_back_handshake(self.handshake_bytes);
            limits.end_session(self.address);
        }
    }
}
