//! Mounting in another HTTP server: a tower layer and a service

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Either;
use roomcast_core::{BoxError, ResponseBody};
use tower_layer::Layer;
use tower_service::Service;

use crate::app::model::io::Io;
use crate::ingress::answer;

impl Io {
    /// Returns a tower layer that serves the endpoints and forwards all other requests.
    ///
    /// In axum, apply it to the outermost router. A *nested* router runs its layers for its own routes only, and the
    /// endpoints are not routes, so `nest("/api", router.layer(io.layer()))` answers 404 to every client. To mount
    /// below a path, apply the layer outside with [`under`](IoLayer::under), or nest a [service](Self::service):
    ///
    /// ```
    /// use axum::Router;
    /// use axum::routing::get;
    /// use roomcast_server::Io;
    ///
    /// let io = Io::new();
    /// let api = Router::new().route("/users", get(async || "nobody"));
    /// // Socket.IO at /api/socket.io/, plain WebSocket at /api/ws
    /// let app: Router = Router::new().nest("/api", api).layer(io.layer().under("/api"));
    /// ```
    ///
    /// Serve the router with `into_make_service_with_connect_info::<SocketAddr>()`; otherwise client addresses are
    /// unknown and per-address limits have no effect.
    pub fn layer(&self) -> IoLayer {
        self.app().budget.announce();
        IoLayer { io: self.clone(), prefix: "".into() }
    }

    /// Returns a tower service that serves the endpoints and answers all other requests with 404.
    ///
    /// In axum `nest_service("/api", io.service())` mounts it below a path.
    pub fn service(&self) -> IoService<NotFound> {
        self.layer().layer(NotFound)
    }
}

/// Tower layer that serves an [`Io`]'s endpoints and forwards all other requests.
#[derive(Debug, Clone)]
#[must_use]
pub struct IoLayer {
    io: Io,
    /// Prefix of the endpoint paths, without a trailing slash
    prefix: Arc<str>,
}

impl IoLayer {
    /// Mounts the endpoints below a path prefix, such as `/api`.
    ///
    /// Socket.IO clients then set the path: `io(url, { path: "/api/socket.io/" })`. A trailing slash makes no
    /// difference. Default: no prefix.
    pub fn under(self, prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        Self { prefix: prefix.into(), ..self }
    }
}

impl<S> Layer<S> for IoLayer {
    type Service = IoService<S>;

    fn layer(&self, inner: S) -> IoService<S> {
        IoService { io: self.io.clone(), prefix: self.prefix.clone(), inner }
    }
}

/// Tower service that serves an [`Io`]'s endpoints and forwards all other requests.
#[derive(Debug, Clone)]
pub struct IoService<S> {
    io: Io,
    prefix: Arc<str>,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for IoService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    // The inner service's body keeps its type: axum's, for example, has no `From<ResponseBody>`.
    type Response = Response<Either<ResponseBody, R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (io, prefix) = (self.io.clone(), self.prefix.clone());
        // The clone may not be ready; the polled service is.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            match answer(&io, &prefix, request).await {
                Ok(response) => Ok(response.map(Either::Left)),
                Err(request) => inner.call(request).await.map(|response| response.map(Either::Right)),
            }
        })
    }
}

/// Service that answers every request with 404.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::exhaustive_structs, reason = "it is a marker")]
pub struct NotFound;

impl<B> Service<Request<B>> for NotFound {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<ResponseBody>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let mut response = Response::new(ResponseBody::Empty);
        *response.status_mut() = StatusCode::NOT_FOUND;
        std::future::ready(Ok(response))
    }
}
