//! Mounted in somebody else's HTTP server: a tower layer, and a service

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Either;
use roomcast_core::{BoxError, ResponseBody};
use tower_layer::Layer;
use tower_service::Service;

use crate::io::Io;
use crate::requests::answer;

impl Io {
    /// A tower layer: takes the requests of its endpoints and passes all others on
    pub fn layer(&self) -> IoLayer {
        self.app().budget.announce();
        IoLayer { io: self.clone() }
    }

    /// A tower service: takes the requests of its endpoints and answers all others with 404
    pub fn service(&self) -> IoService<NotFound> {
        self.app().budget.announce();
        IoService { io: self.clone(), inner: NotFound }
    }
}

/// A tower layer: takes the requests of an [`Io`]'s endpoints and passes all others on
#[derive(Debug, Clone)]
pub struct IoLayer {
    io: Io,
}

impl<S> Layer<S> for IoLayer {
    type Service = IoService<S>;

    fn layer(&self, inner: S) -> IoService<S> {
        IoService { io: self.io.clone(), inner }
    }
}

/// A tower service: takes the requests of an [`Io`]'s endpoints and passes all others on
#[derive(Debug, Clone)]
pub struct IoService<S> {
    io: Io,
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
    // Bodies of other servers are not to be made of ours: axum's, for one, says nothing of it.
    type Response = Response<Either<ResponseBody, R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let io = self.io.clone();
        // The clone is not ready; the one that was asked is.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            match answer(&io, request).await {
                Ok(response) => Ok(response.map(Either::Left)),
                Err(request) => inner.call(request).await.map(|response| response.map(Either::Right)),
            }
        })
    }
}

/// Answers everything with 404
#[derive(Debug, Clone, Copy)]
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
