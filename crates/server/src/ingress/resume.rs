//! Third step, for a request of a session: it is handed to the task of the session

use http::HeaderValue;

use super::admit::Continued;
use super::answer::Refused;
use crate::app::model::io::Io;
use crate::host::breach::{Breach, breach};
use crate::session::inbox::NotTaken;
use crate::web::engine_error::{Bad, Refusal};
use crate::web::upgrade;

/// Hands a request to its session, which answers it
///
/// There is no cookie to be told.
pub(super) fn resume(io: &Io, continued: Continued) -> Result<Option<HeaderValue>, Refused> {
    let Continued { session, transport, exchange } = continued;
    let limit = io.app().config.max_requests;
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
