//! Step 4: completes the response with the headers of settings and hooks.

use http::header::{ORIGIN, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response};
use roomcast_core::{FixedHeaders, ResponseBody};

use super::answer::{Answer, RefusalResponse, unanswered};
use super::cors;
use super::route::Route;
use crate::app::model::io::Io;
use crate::host::metrics::count;
use crate::web::compression::{Coding, HttpCompression};
use crate::web::engine_query::EngineQuery;

/// Properties of a request that determine its response.
pub(super) struct Respond {
    /// Whether CORS applies: only to Engine.IO endpoints
    is_engine: bool,
    origin: Option<HeaderValue>,
    compression: Option<(HttpCompression, Coding)>,
    /// Copied only if a hook changes headers
    head: Option<Box<Parts>>,
}

impl Respond {
    pub(super) fn to(io: &Io, route: &Route<'_>, request: &Parts) -> Self {
        let (app, is_engine) = (io.app(), route.endpoint.is_engine());
        let rules = app.config.http.compression.filter(|_| is_engine && request.method == Method::GET);
        Self {
            is_engine,
            origin: request.headers.get(ORIGIN).cloned(),
            compression: rules.and_then(|rules| Some((rules, Coding::accepted(&request.headers)?))),
            head: app.hooks.change_headers().then(|| Box::new(request.clone())),
        }
    }

    /// Awaits the session's response unless the request was refused, and adds headers.
    pub(super) async fn with(
        &self,
        io: &Io,
        begun: Result<Option<HeaderValue>, RefusalResponse>,
        answer: Answer,
    ) -> Response<ResponseBody> {
        let response = match begun {
            Ok(cookie) => {
                let mut response = answer.await.unwrap_or_else(|_| unanswered());
                if let Some(cookie) = cookie {
                    response.headers_mut().append(SET_COOKIE, cookie);
                }
                response
            }
            Err(refused) => *refused,
        };
        self.complete(io, response).await
    }

    /// Adds headers to a response, and compresses it.
    pub(super) async fn complete(
        &self,
        io: &Io,
        mut response: Response<ResponseBody>,
    ) -> Response<ResponseBody> {
        let is_refused = response.status().is_client_error() || response.status().is_server_error();
        if self.is_engine {
            self.allow_origin(io, response.headers_mut());
        }
        if let Some((rules, coding)) = self.compression
            && rules.concerns(&response)
        {
            Box::pin(rules.apply(coding, &mut response)).await;
        }
        if let Some(head) = &self.head
            && !is_refused
        {
            let query = EngineQuery::parse(head.uri.query().unwrap_or_default());
            io.hooks().apply_headers(response.headers_mut(), head, query.sid.is_none());
        }
        // Counted here, at the end, to include earlier panics.
        if is_refused {
            count::requests_refused(io.metrics());
        }
        response
    }

    /// Returns the headers of a response that needs no more than headers which are the same each time.
    pub(super) fn fixed_headers(&self, io: &Io, headers: FixedHeaders) -> HeaderMap {
        let mut all: HeaderMap = headers.iter().cloned().collect();
        self.allow_origin(io, &mut all);
        all
    }

    /// Returns whether a response with this body and fixed headers is only given [more](Self::fixed_headers) of them.
    pub(super) fn adds_only_fixed_headers(&self, io: &Io, body: &ResponseBody) -> bool {
        let compresses = self.compression.is_some_and(|(rules, _)| rules.reaches(body));
        self.is_engine && !compresses && self.head.is_none() && io.config().http.cors.is_fixed()
    }

    fn allow_origin(&self, io: &Io, headers: &mut HeaderMap) {
        cors::allow(&io.config().http.cors, self.origin.as_ref(), headers);
    }
}
