//! Request path: route, admit, open or resume, respond.
//!
//! Each step is a file. A request passes the steps once, in this order.

mod admit;
mod answer;
mod body;
mod cors;
mod open;
mod place;
pub(crate) mod repeat;
mod respond;
mod resume;
mod route;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use roomcast_core::{BoxError, Exchange, Rejection, RequestBody, Responder, ResponseBody};

use self::admit::Admitted;
use self::answer::Answer;
pub(crate) use self::answer::RETRY_AFTER;
use self::body::TimedBody;
use self::respond::Respond;
use self::route::Route;
use crate::app::model::io::Io;
use crate::host::metrics::count;
use crate::util::log_limit::log_limited;
use crate::web::upgrade;

/// Answers a request that belongs to an endpoint; returns any other request.
///
/// If an application hook panics, the response is 500. The connection stays open unless it was to leave HTTP.
///
/// `prefix` precedes the endpoint paths, without a trailing slash.
pub(crate) async fn answer<B>(
    io: &Io,
    prefix: &str,
    request: Request<B>,
) -> Result<Response<ResponseBody>, Request<B>>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let leaves = request.headers().contains_key(http::header::UPGRADE);
    if let Ok(answered) = AssertUnwindSafe(answer_unguarded(io, prefix, request)).catch_unwind().await {
        return answered;
    }
    let mut response = panicked(io);
    if leaves {
        // A session that had already begun ends with the connection.
        response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Returns the response to a request whose hook panicked; counts and logs the panic.
pub(crate) fn panicked(io: &Io) -> Response<ResponseBody> {
    count::handlers_panicked(io.metrics());
    count::requests_refused(io.metrics());
    log_limited!(ERROR, (), status = 500, "hook panicked on a request");
    Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, "The server failed to answer this request.\n")
        .response()
}

async fn answer_unguarded<B>(
    io: &Io,
    prefix: &str,
    request: Request<B>,
) -> Result<Response<ResponseBody>, Request<B>>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let Some(route) = Route::find(io, prefix, request.uri().path()) else { return Err(request) };
    if let Some(response) = route.answer_without_session(io, &request) {
        return Ok(response);
    }
    let (exchange, answer) = exchange(io, request);
    let respond = Respond::to(io, &route, &exchange.request);
    let begun = match admit::admit(io, &route, exchange) {
        Ok(Admitted::Begins(request)) => open::open(*request).await,
        Ok(Admitted::Continues(continued)) => resume::resume(io, continued),
        Err(refused) => Err(refused),
    };
    Ok(respond.with(io, begun, answer).await)
}

fn exchange<B>(io: &Io, mut request: Request<B>) -> (Exchange, Answer)
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let upgrade = upgrade::take(&mut request);
    let (request, body) = request.into_parts();
    let (respond, answer) = Responder::new();
    let body = match request.method {
        // The body of a GET is never read, and an empty one needs no memory.
        Method::GET => empty_body(),
        _ => {
            let body = RequestBody::new(body.map_err(Into::into));
            if body.is_end_stream() { body } else { RequestBody::new(TimedBody::new(body, io)) }
        }
    };
    (Exchange { request: Arc::new(request), body, respond, upgrade, subprotocol: None }, answer)
}

fn empty_body() -> RequestBody {
    RequestBody::new(Empty::new().map_err(|never| match never {}))
}
