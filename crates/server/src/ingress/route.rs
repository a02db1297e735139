//! Step 1: finds the endpoint of a request, and answers requests that need no session.

use http::header::ORIGIN;
use http::{Request, Response};
use roomcast_core::ResponseBody;

use super::cors;
use crate::app::model::io::Io;
use crate::session::endpoint::Endpoint;
use crate::web::client_files;

/// Endpoint of a request.
pub(super) struct Route<'a> {
    pub(super) endpoint: &'a Endpoint,
    /// Length in bytes of the path's variable part
    pub(super) rest_len: usize,
    /// Offset of the endpoint's path within the request path
    prefix_len: usize,
}

impl<'a> Route<'a> {
    /// Returns the route of a path, or `None` if no endpoint takes it.
    pub(super) fn find(io: &'a Io, prefix: &str, path: &str) -> Option<Self> {
        let path = path.strip_prefix(prefix).filter(|path| path.starts_with('/'))?;
        let endpoint = io.app().endpoints.iter().find(|endpoint| endpoint.takes(path))?;
        Some(Self { endpoint, rest_len: endpoint.rest(path).len(), prefix_len: prefix.len() })
    }

    /// Answers a CORS preflight, or a request for a client file.
    pub(super) fn answer_without_session<B>(
        &self,
        io: &Io,
        request: &Request<B>,
    ) -> Option<Response<ResponseBody>> {
        let app = io.app();
        if self.endpoint.is_engine()
            && let Some(preflight) = cors::preflight(&app.config.http.cors, request)
        {
            return Some(preflight);
        }
        let name = self.endpoint.client_file(request.uri().path().get(self.prefix_len..)?)?;
        let mut file = match &app.client_files {
            Some(files) => files.answer(request.method(), name, request.headers()),
            None => client_files::not_served(request.method(), name),
        }?;
        cors::allow(&app.config.http.cors, request.headers().get(ORIGIN), file.headers_mut());
        Some(file)
    }
}
