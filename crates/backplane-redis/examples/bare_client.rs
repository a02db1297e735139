//! The bare client library as a process, for the comparison: `bare_client publish|receive URL`.
//!
//! Lines on standard input are commands, each answered with a line when it is complete:
//!
//! - `publish COUNT BYTES` publishes messages in pipelines, several of them under way;
//! - `receive COUNT` receives messages. The first line, `ready`, follows the subscription.

#![allow(clippy::print_stdout, reason = "a measurement")]

use std::collections::VecDeque;
use std::error::Error;
use std::io::{BufRead, stdin};

use futures_util::StreamExt;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [role, url] = &arguments[..] else {
        return Err("usage: bare_client publish|receive URL".into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match role.as_str() {
        "publish" => runtime.block_on(publish(url)),
        "receive" => runtime.block_on(receive(url)),
        other => Err(format!("unknown role {other}").into()),
    }
}

/// Returns the numbers of the next command; `None` at the end of the input.
fn next_command() -> Result<Option<Vec<usize>>, Box<dyn Error>> {
    let Some(line) = stdin().lock().lines().next().transpose()? else { return Ok(None) };
    let numbers = line.split(' ').map(str::parse);
    Ok(Some(numbers.collect::<Result<_, _>>()?))
}

async fn publish(url: &str) -> Result<(), Box<dyn Error>> {
    let connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    println!("ready");
    while let Some(command) = next_command()? {
        let [count, bytes] = command[..] else { return Err("expected COUNT BYTES".into()) };
        let payload = vec![b'x'; bytes];
        let mut under_way = VecDeque::new();
        let mut sent = 0;
        while sent < count {
            let mut pipe = redis::pipe();
            let size = PIPELINE.min(count - sent);
            for _ in 0..size {
                pipe.cmd("PUBLISH").arg(CHANNEL).arg(&payload).ignore();
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
        println!("done");
    }
    Ok(())
}

async fn receive(url: &str) -> Result<(), Box<dyn Error>> {
    let mut subscription = redis::Client::open(url)?.get_async_pubsub().await?;
    subscription.subscribe(CHANNEL).await?;
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

const CHANNEL: &str = "measured";
/// Messages of a pipeline, and pipelines without replies: as many messages as the servers have under way.
const PIPELINE: usize = 64;
const PIPELINES: usize = 16;
