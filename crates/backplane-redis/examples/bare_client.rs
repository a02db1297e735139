//! The bare client library as a process, for the comparison: `bare_client publish|receive URL [node]`.
//!
//! Lines on standard input are commands, each answered with a line when it is complete. The first line, `ready`,
//! follows the subscription.
//!
//! - A publisher takes `COUNT BYTES`, and publishes messages in pipelines, several of them under way.
//! - A receiver takes `COUNT`, and receives messages.
//!
//! With `node`, the messages are as long as in Node's classic adapter, arrive by a pattern, and come back to the
//! publisher, which is complete when it has received them.

#![allow(clippy::print_stdout, reason = "a measurement")]

use std::collections::VecDeque;
use std::error::Error;
use std::io::{BufRead, stdin};

use futures_util::StreamExt;
use tokio::sync::watch;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (role, url, format) = match &arguments[..] {
        [role, url] => (role, url, Format::Bare),
        [role, url, format] if format == "node" => (role, url, Format::Node),
        _ => return Err("usage: bare_client publish|receive URL [node]".into()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match role.as_str() {
        "publish" => runtime.block_on(publish(url, format)),
        "receive" => runtime.block_on(receive(url, format)),
        other => Err(format!("unknown role {other}").into()),
    }
}

/// Traffic of the publisher and the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// The payload on one channel, which the receiver subscribes to.
    Bare,
    /// As much as in the format of Node's classic adapter.
    Node,
}

impl Format {
    fn channel(self) -> &'static str {
        match self {
            Self::Bare => "measured",
            Self::Node => "socket.io#/#measured#",
        }
    }

    /// Returns the bytes around the payload: a packet with the id of its server, its namespace and its rooms.
    fn packet_bytes(self) -> usize {
        if self == Self::Node { 65 } else { 0 }
    }

    async fn subscribe(self, url: &str) -> Result<redis::aio::PubSub, redis::RedisError> {
        let mut subscription = redis::Client::open(url)?.get_async_pubsub().await?;
        match self {
            Self::Bare => subscription.subscribe(self.channel()).await?,
            Self::Node => subscription.psubscribe("socket.io#/#*").await?,
        }
        Ok(subscription)
    }
}

/// Returns the numbers of the next command; `None` at the end of the input.
fn next_command() -> Result<Option<Vec<usize>>, Box<dyn Error>> {
    let Some(line) = stdin().lock().lines().next().transpose()? else { return Ok(None) };
    let numbers = line.split(' ').map(str::parse);
    Ok(Some(numbers.collect::<Result<_, _>>()?))
}

async fn publish(url: &str, format: Format) -> Result<(), Box<dyn Error>> {
    let (own, mut returned) = watch::channel(0);
    if format == Format::Node {
        let mut subscription = format.subscribe(url).await?;
        tokio::spawn(async move {
            let mut messages = subscription.on_message();
            while messages.next().await.is_some() {
                own.send_modify(|count| *count += 1);
            }
        });
    }
    let mut expected = 0;
    let connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    println!("ready");
    while let Some(command) = next_command()? {
        let [count, bytes] = command[..] else { return Err("expected COUNT BYTES".into()) };
        let payload = vec![b'x'; bytes + format.packet_bytes()];
        let mut under_way = VecDeque::new();
        let mut sent = 0;
        while sent < count {
            let mut pipe = redis::pipe();
            let size = PIPELINE.min(count - sent);
            for _ in 0..size {
                pipe.cmd("PUBLISH").arg(format.channel()).arg(&payload).ignore();
            }
            sent += size;
            let mut connection = connection.clone();
            under_way.push_back(tokio::spawn(async move { pipe.query_async::<()>(&mut connection).await }));
            if under_way.len() == PIPELINES
                && let Some(oldest) = under_way.pop_front()
            {
                oldest.await??;
            }
        }
        for pipeline in under_way {
            pipeline.await??;
        }
        if format == Format::Node {
            expected += count;
            returned.wait_for(|returned| *returned >= expected).await?;
        }
        println!("done");
    }
    Ok(())
}

async fn receive(url: &str, format: Format) -> Result<(), Box<dyn Error>> {
    let mut subscription = format.subscribe(url).await?;
    let mut messages = subscription.on_message();
    println!("ready");
    while let Some(command) = next_command()? {
        let [count] = command[..] else { return Err("expected COUNT".into()) };
        for _ in 0..count {
            let message = messages.next().await.ok_or("the connection ended")?;
            if message.get_payload_bytes().is_empty() {
                return Err("an empty message".into());
            }
        }
        println!("done");
    }
    Ok(())
}

/// Messages of a pipeline, and pipelines without replies: as many messages as the servers have under way.
const PIPELINE: usize = 64;
const PIPELINES: usize = 16;
