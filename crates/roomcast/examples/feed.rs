//! Feed of binary stock quotes for plain WebSocket clients, sent by a background task.
//!
//! Run it with `cargo run --example feed`, then connect with `new WebSocket("ws://127.0.0.1:3000/quotes")`. Each frame
//! contains the number of a stock and its price in cents, both as big-endian 32-bit integers. A slow client receives
//! only the latest quote of each stock.

use std::time::Duration;

use roomcast::transport::Endpoint;
use roomcast::{Bytes, Io, ServeError, Server};

#[tokio::main]
async fn main() -> Result<(), ServeError> {
    tracing_subscriber::fmt().init();
    let io = Io::builder().endpoint(Endpoint::plain("/quotes")).build();
    tokio::spawn(publish(io.clone()));
    let server = Server::new(io).bind("127.0.0.1:3000")?;
    println!("listening on ws://{}/quotes", server.address());
    server.serve().await?;
    Ok(())
}

async fn publish(io: Io) {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let mut prices = [10_000_u32; 8];
    for turn in 0_usize.. {
        ticks.tick().await;
        let stock = turn % prices.len();
        // Pseudo-random prices.
        prices[stock] = prices[stock].wrapping_mul(31).wrapping_add(7) % 20_000;
        let quote = [(stock as u32).to_be_bytes(), prices[stock].to_be_bytes()].concat();
        // A plain client receives a single `Bytes` argument as a binary frame.
        if let Err(error) = io.latest(format!("stock {stock}")).emit("message", Bytes::from(quote)) {
            eprintln!("cannot emit: {error}");
        }
    }
}
