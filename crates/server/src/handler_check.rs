//! Checks that `#[debug_handler]` generates, so that a compile error names the faulty part
//!
//! Not for applications: the macro generates calls to these.

use std::future::Future;

use crate::app::handler::call::{ByType, FromEvent};
use crate::app::handler::extract::{Extension, State};
use crate::app::handler::outcome::Outcome;

/// Checks a parameter.
pub fn parameter<T: FromEvent<M>, M>() {}

/// Checks a parameter named `State`.
pub fn state<T: StateParameter>() {}

/// Checks a parameter named `Extension`.
pub fn extension<T: ExtensionParameter>() {}

/// Checks the return type of an async handler.
pub fn returned<T: Outcome>() {}

/// Checks the return type of a handler that is not async or returns a future.
pub fn returned_at_once<T: OutcomeOrFuture<M>, M>() {}

/// Checks the future of an async handler.
pub fn future<F: Future + Send + 'static>(_: F) {}

/// Roomcast's own `State`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not Roomcast's `State`",
    label = "take `roomcast::State<_>` here",
    note = "its value is given to `Io::builder().state(..)`, apart from the state of an axum router, and is `Clone + Send + Sync + 'static`"
)]
pub trait StateParameter {}

impl<T: Clone + Send + Sync + 'static> StateParameter for State<T> where Self: FromEvent<ByType> {}

/// Roomcast's own `Extension`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not Roomcast's `Extension`",
    label = "take `roomcast::extract::Extension<_>` here",
    note = "its value is an extension of the request that the connection began with, set by a layer in front of `Io::layer`, and is `Clone + Send + Sync + 'static`"
)]
pub trait ExtensionParameter {}

impl<T: Clone + Send + Sync + 'static> ExtensionParameter for Extension<T> where Self: FromEvent<ByType> {}

/// Return type of a handler without `async`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be returned by a handler",
    label = "neither an outcome nor a `Send + 'static` future of one",
    note = "a handler returns `()`, a `Receipt`, an answer such as `String`, `Vec<_>`, `Value` or `Answer<_>`, or a `Result` of one with an error that is `Display`"
)]
pub trait OutcomeOrFuture<M> {}

/// Marks immediate values.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "it is a marker")]
pub struct AtOnce;

/// Marks futures.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "it is a marker")]
pub struct Later;

#[diagnostic::do_not_recommend]
impl<T: Outcome> OutcomeOrFuture<AtOnce> for T {}

#[diagnostic::do_not_recommend]
impl<F: Future<Output: Outcome> + Send + 'static> OutcomeOrFuture<Later> for F {}
