//! Byte stream of a request that has left HTTP

use std::io;

use bytes::Bytes;
use http::{HeaderMap, Request};
use hyper::upgrade::{OnUpgrade, Upgraded as HyperUpgraded};
use hyper_util::rt::TokioIo;
#[cfg(feature = "axum")]
use hyper_util::server::conn::auto;
use roomcast_core::{Upgrade, Upgraded};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use crate::web::shared_stream::SharedStream;
use crate::web::stream::HttpStream;
#[cfg(feature = "tls")]
use crate::web::tls_stream::TlsStream;

/// Returns whether a request asks for a WebSocket, valid or not.
pub(crate) fn is_asked(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(http::header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.split(',').any(|name| name.trim().eq_ignore_ascii_case("websocket")))
}

/// Takes the upgrade from a request that asks for one.
pub(crate) fn take<B>(request: &mut Request<B>) -> Option<Upgrade> {
    if !request.headers().contains_key(http::header::UPGRADE) {
        return None;
    }
    let upgrade = request.extensions_mut().remove::<OnUpgrade>()?;
    let home = Handle::current().id();
    Some(Upgrade::with_unsent(async move {
        let (mut upgraded, unsent) = unwrap(upgrade.await.map_err(io::Error::other)?);
        // A session may run on another runtime than its connection's acceptor. Readiness must arrive on the session's
        // runtime, or each event would wake two threads.
        if Handle::current().id() != home {
            upgraded.stream = match downcast(upgraded.stream) {
                Ok(tcp) => Box::new(TcpStream::from_std(tcp.into_std()?)?),
                Err(other) => other,
            };
        }
        Ok((upgraded, unsent))
    }))
}

/// Finds the inner TCP stream, if any: this server's, hyper's, or as wrapped by `axum::serve`.
///
/// Also returns the part of the response that is still to be sent, which only this server's streams keep.
fn unwrap(upgraded: HyperUpgraded) -> (Upgraded, Bytes) {
    let upgraded = match upgraded.downcast::<TokioIo<SharedStream<TcpStream>>>() {
        Ok(parts) => {
            let (stream, ahead, unsent) = taken(&parts.io.into_inner()).into_parts();
            let read_buffer = joined(parts.read_buf, ahead);
            return (Upgraded { stream: Box::new(stream), read_buffer }, unsent);
        }
        Err(upgraded) => upgraded,
    };
    #[cfg(feature = "tls")]
    let upgraded = match upgraded.downcast::<TokioIo<SharedStream<TlsStream>>>() {
        Ok(parts) => {
            let (stream, ahead, unsent) = taken(&parts.io.into_inner()).into_parts();
            let stream = Box::new(stream.into_inner());
            return (Upgraded { stream, read_buffer: joined(parts.read_buf, ahead) }, unsent);
        }
        Err(upgraded) => upgraded,
    };
    let sent = |stream, read_buffer| (Upgraded { stream, read_buffer }, Bytes::new());
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => return sent(Box::new(parts.io.into_inner()), parts.read_buf),
        Err(upgraded) => upgraded,
    };
    #[cfg(feature = "axum")]
    let upgraded = match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => return sent(Box::new(parts.io.into_inner()), parts.read_buf),
        Err(upgraded) => upgraded,
    };
    sent(Box::new(TokioIo::new(upgraded)), Bytes::new())
}

fn taken<S>(stream: &SharedStream<S>) -> HttpStream<S> {
    stream.take().expect("a connection leaves HTTP once")
}

/// Joins the HTTP library's unread bytes and the stream's read-ahead.
fn joined(first: Bytes, then: Bytes) -> Bytes {
    match (first.is_empty(), then.is_empty()) {
        (true, _) => then,
        (_, true) => first,
        _ => [first, then].concat().into(),
    }
}

fn downcast(
    stream: Box<dyn roomcast_core::ByteStream>,
) -> Result<TcpStream, Box<dyn roomcast_core::ByteStream>> {
    use std::any::Any;
    if (&*stream as &dyn Any).is::<TcpStream>() {
        let tcp = (stream as Box<dyn Any>).downcast::<TcpStream>();
        Ok(*tcp.expect("its type was just asked for"))
    } else {
        Err(stream)
    }
}
