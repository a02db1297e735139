//! First step: which endpoint a request belongs to, and what it is answered where no session is needed

use http::header::ORIGIN;
use http::{Request, Response};
use roomcast_core::ResponseBody;

use super::cors;
use crate::app::model::io::Io;
use crate::session::endpoint::Endpoint;
use crate::web::client_files;

/// Where a request leads
pub(super) struct Route<'a> {
    pub(super) endpoint: &'a Endpoint,
    /// Bytes at the end of the path that the application has a meaning for
    pub(super) rest_len: usize,
    /// Where in the path of the request that of the endpoint begins
    prefix_len: usize,
}

impl<'a> Route<'a> {
    /// Finds the endpoint of a path; `None` if it is nobody's business here
    pub(super) fn find(io: &'a Io, prefix: &str, path: &str) -> Option<Self> {
        let path = path.strip_prefix(prefix).filter(|path| path.starts_with('/'))?;
        let endpoint = io.app().endpoints.iter().find(|endpoint| endpoint.takes(path))?;
        Some(Self { endpoint, rest_len: endpoint.rest(path).len(), prefix_len: prefix.len() })
    }

    /// Answers a preflight, or a request for a file of the client
    pub(super) fn answer_without_session<B>(
        &self,
        io: &Io,
        request: &Request<B>,
    ) -> Option<Response<ResponseBody>> {
        let app = io.app();
        if self.endpoint.is_engine()
            && let Some(preflight) = cors::preflight(&app.config, request)
        {
            return Some(preflight);
        }
        let name = self.endpoint.client_file(request.uri().path().get(self.prefix_len..)?)?;
        let mut file = match &app.client_files {
            Some(files) => files.answer(request.method(), name, request.headers()),
            None => client_files::not_served(request.method(), name),
        }?;
        cors::allow(&app.config, request.headers().get(ORIGIN), file.headers_mut());
        Some(file)
    }
}
