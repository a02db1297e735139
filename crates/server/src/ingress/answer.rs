//! What a request comes to

use http::{Response, StatusCode};
use roomcast_core::ResponseBody;
use tokio::sync::oneshot;

/// The answer to a request that is refused
pub(super) type Refused = Box<Response<ResponseBody>>;

/// What comes of an exchange in the end
pub(super) type Answer = oneshot::Receiver<Response<ResponseBody>>;

/// Seconds after which a client that found no room may try again
pub(crate) const RETRY_AFTER: &str = "5";

/// The session ended before it could answer
pub(super) fn unanswered() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}
