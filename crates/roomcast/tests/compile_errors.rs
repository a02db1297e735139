//! Compiler errors for invalid handlers, and none for valid ones

#![cfg(feature = "macros")]

use std::future::Future;
use std::pin::Pin;

use roomcast::emit::Receipt;
use roomcast::extract::{ArgsError, Extension};
use roomcast::handler::Answer;
use roomcast::{Ack, Args, EmitError, Io, Socket, State, Value, debug_handler};
use serde::{Deserialize, Serialize};

/// The expected texts match the toolchain of the checks; `TRYBUILD=overwrite` regenerates them.
#[test]
fn errors_match_expected_text() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/compile_errors/*.rs");
}

#[derive(Clone, Serialize, Deserialize)]
struct User {
    name: String,
}

#[debug_handler]
async fn nothing() {}

#[debug_handler]
#[expect(clippy::too_many_arguments, reason = "the maximum number of parameters")]
fn borrows(socket: &Socket, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, mut last: Args) -> usize {
    last = last.clone();
    last.len() + socket.rooms().len()
}

#[debug_handler]
async fn takes_everything(
    socket: Socket,
    State(user): State<User>,
    Extension(_): Extension<User>,
    User { name }: User,
    number: Result<Option<u32>, ArgsError>,
    ack: Ack,
) -> Result<Receipt, EmitError> {
    ack.send((name, number.is_ok()))?;
    socket.emit("user", &user)
}

#[debug_handler]
async fn wraps(name: String) -> Answer<User> {
    Answer(User { name })
}

#[debug_handler]
async fn finds(name: String) -> Result<User, Box<dyn std::error::Error + Send + Sync>> {
    if name.is_empty() { Err("nobody".into()) } else { Ok(User { name }) }
}

#[debug_handler]
#[expect(clippy::manual_async_fn, reason = "tests a handler that is not async")]
fn makes_a_future(value: Value) -> impl Future<Output = Value> + Send + 'static {
    async { value }
}

#[debug_handler]
fn boxes_a_future(value: Value) -> Pin<Box<dyn Future<Output = Value> + Send>> {
    Box::pin(async { value })
}

#[test]
fn accepts_valid_handlers() {
    let io = Io::new();
    io.on("any", nothing).on("any", borrows).on("any", takes_everything).on("any", wraps);
    io.on("any", finds).on("any", makes_a_future).on("any", boxes_a_future);
    assert_eq!(io.listeners("any").len(), 7);
}
