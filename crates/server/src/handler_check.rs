//! What `#[debug_handler]` asks of each part of a handler, so that the error names the part
//!
//! Not for applications: the macro writes calls of these.

use std::future::Future;

use crate::app::handler::call::{ByType, FromEvent};
use crate::app::handler::extract::{Extension, State};
use crate::app::handler::outcome::Outcome;

/// Checks a parameter.
pub fn parameter<T: FromEvent<M>, M>() {}

/// Checks a parameter that is called `State`.
pub fn state<T: StateParameter>() {}

/// Checks a parameter that is called `Extension`.
pub fn extension<T: ExtensionParameter>() {}

/// Checks the type that an async handler returns.
pub fn returned<T: Outcome>() {}

/// Checks the type that a handler returns which is not async, or which makes its future itself.
pub fn returned_at_once<T: OutcomeOrFuture<M>, M>() {}

/// Checks the future of an async handler.
pub fn future<F: Future + Send + 'static>(_: F) {}

/// Roomcast's own `State`
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not Roomcast's `State`",
    label = "take `roomcast::State<_>` here",
    note = "its value is given to `Io::builder().state(..)`, apart from the state of an axum router, and is `Clone + Send + Sync + 'static`"
)]
pub trait StateParameter {}

impl<T: Clone + Send + Sync + 'static> StateParameter for State<T> where Self: FromEvent<ByType> {}

/// Roomcast's own `Extension`
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not Roomcast's `Extension`",
    label = "take `roomcast::extract::Extension<_>` here",
    note = "its value is an extension of the request that the connection began with, set by a layer in front of `Io::layer`, and is `Clone + Send + Sync + 'static`"
)]
pub trait ExtensionParameter {}

impl<T: Clone + Send + Sync + 'static> ExtensionParameter for Extension<T> where Self: FromEvent<ByType> {}

/// What a function returns that is a handler without `async`
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be returned by a handler",
    label = "neither an outcome nor a `Send + 'static` future of one",
    note = "a handler returns `()`, a `Receipt`, an answer such as `String`, `Vec<_>`, `Value` or `Answer<_>`, or a `Result` of one with an error that is `Display`"
)]
pub trait OutcomeOrFuture<M> {}

/// Marks what is there at once
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "it is a marker")]
pub struct AtOnce;

/// Marks futures
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "it is a marker")]
pub struct Later;

#[diagnostic::do_not_recommend]
impl<T: Outcome> OutcomeOrFuture<AtOnce> for T {}

#[diagnostic::do_not_recommend]
impl<F: Future<Output: Outcome> + Send + 'static> OutcomeOrFuture<Later> for F {}
