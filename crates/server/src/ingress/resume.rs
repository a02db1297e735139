//! Step 3 of an existing session: queues the request for its driver task.

use http::HeaderValue;

use super::admit::Continued;
use super::answer::Refused;
use crate::app::model::io::Io;
use crate::host::breach::{Breach, breach};
use crate::session::inbox::NotTaken;
use crate::web::engine_error::{Bad, Refusal};
use crate::web::upgrade;

/// Queues a request for its session, which answers it.
///
/// Returns no cookie.
///
/// # Errors
/// The response to a request whose session has ended or has too many requests waiting.
pub(super) fn resume(io: &Io, continued: Continued) -> Result<Option<HeaderValue>, Refused> {
    let Continued { session, transport, exchange } = continued;
    let limit = io.app().config.limits.max_requests;
    let (refusal, exchange) = match session.inbox.push_exchange(transport, exchange, limit) {
        Ok(()) => return Ok(None),
        Err(NotTaken::Over(exchange)) => (Refusal::UnknownSession, exchange),
        Err(NotTaken::Crowded(exchange)) => {
            breach!(io, Breach::Requests, value = limit, "request refused: too many of its session wait");
            (Refusal::BadRequest(Bad::Crowded(limit)), exchange)
        }
    };
    let upgrades = upgrade::is_asked(&exchange.request.headers);
    Err(Box::new(io.hooks().refuse(io.metrics(), &refusal, &exchange.request, upgrades)))
}
