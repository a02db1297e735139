//! Chat room in a hyper server that accepts its own connections and serves other routes.
//!
//! Run it with `cargo run --example hyper_chat`, then `curl http://127.0.0.1:3000/online`.

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use roomcast::http::{Peer, ResponseBody};
use roomcast::http::{Request, Response};
use roomcast::{Bytes, EmitError, Io, Socket};
use tokio::net::TcpListener;
use tower_service::Service;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt().init();
    let io = Io::new();
    io.on_connect(async |socket: Socket| {
        socket.join("lobby");
    });
    io.on("say", say);

    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, address) = listener.accept().await?;
        let io = io.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(io.clone(), request, address));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // WebSockets need hyper's upgrade support.
            if let Err(error) = connection.with_upgrades().await {
                eprintln!("{address}: {error}");
            }
        });
    }
}

type Body = Either<ResponseBody, Full<Bytes>>;

async fn answer(
    io: Io,
    mut request: Request<Incoming>,
    address: SocketAddr,
) -> Result<Response<Body>, Infallible> {
    if request.uri().path() == "/online" {
        let online = format!("{} online\n", io.count("lobby"));
        return Ok(Response::new(Either::Right(online.into())));
    }
    // Handlers, per-address limits and logs read the client address from this extension.
    request.extensions_mut().insert(Peer { address, secure: false });
    let answered = io.service().call(request).await;
    Ok(answered?.map(|body| match body {
        Either::Left(body) | Either::Right(body) => Either::Left(body),
    }))
}

async fn say(socket: Socket, text: String) -> Result<(), EmitError> {
    socket.to("lobby").emit("said", (socket.id().as_str(), text)).map(drop)
}
