//! Outcomes of a request.

use http::{Response, StatusCode};
use roomcast_core::ResponseBody;
use tokio::sync::oneshot;

/// Response to a request that is refused.
pub(super) type RefusalResponse = Box<Response<ResponseBody>>;

/// Receives the session's response.
pub(super) type Answer = oneshot::Receiver<Response<ResponseBody>>;

/// Seconds after which a client rejected by a limit may retry
pub(crate) const RETRY_AFTER: &str = "5";

/// Returns the response to a request whose session ended before it answered.
pub(super) fn unanswered() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}
