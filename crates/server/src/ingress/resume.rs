//! Step 3 of an existing session: queues the request for its driver task.

use http::HeaderValue;

use super::admit::Continued;
use super::answer::RefusalResponse;
use crate::app::model::io::Io;
use crate::host::limit::{Limit, limit_exceeded};
use crate::session::mailbox::PushError;
use crate::web::engine_error::{BadRequest, Refusal};
use crate::web::upgrade;

/// Queues a request for its session, which answers it.
///
/// Returns no cookie.
///
/// # Errors
/// The response to a request whose session has ended or has too many requests waiting.
pub(super) fn resume(io: &Io, continued: Continued) -> Result<Option<HeaderValue>, RefusalResponse> {
    let Continued { session, transport, exchange } = continued;
    let limit = io.app().config.limits.max_requests;
    let (refusal, exchange) = match session.mailbox.push_exchange(transport, exchange, limit) {
        Ok(()) => return Ok(None),
        Err(PushError::Over(exchange)) => (Refusal::UnknownSession, exchange),
        Err(PushError::Crowded(exchange)) => {
            limit_exceeded!(
                io,
                Limit::Requests,
                value = limit,
                "request refused: request queue of the session full"
            );
            (Refusal::BadRequest(BadRequest::Crowded(limit)), exchange)
        }
    };
    let upgrades = upgrade::is_asked(&exchange.request.headers);
    Err(Box::new(io.hooks().refuse(io.metrics(), &refusal, &exchange.request, upgrades)))
}
