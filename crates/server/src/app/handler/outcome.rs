//! Return values of handlers: nothing, an answer, or an error.

use std::any::TypeId;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;

use bytes::Bytes;
use roomcast_core::{Args, IntoArgs, Receipt, Room, SocketId};
use serde::Serialize;
use serde_json::Value;

use crate::app::error::{HandlerError, failure};
use crate::app::model::ack::Ack;
use crate::app::model::event_input::HandlerInput;

/// Type that a handler may return.
///
/// See [`Handler`](crate::handler::Handler#what-it-returns).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be returned by a handler",
    label = "not an outcome of a handler",
    note = "a handler returns `()`, a `Receipt`, an answer, or a `Result<T, E>` where `T: Serialize` and `E: Display`",
    note = "an answer is a `bool`, a number, text, `Bytes`, `Value`, a collection or a tuple; return any other type that implements `serde::Serialize` as `roomcast::handler::Answer(value)`"
)]
pub trait Outcome {
    /// Returns whether the type is an answer; `false` for `()` and [`Receipt`], also inside a `Result`.
    fn is_answer() -> bool;

    /// Converts an answer to arguments; `None` if it is not an answer, or not `is_wanted`.
    ///
    /// # Errors
    /// Returns an error if the handler failed or the answer cannot be serialised.
    fn into_answer(self, is_wanted: bool) -> Result<Option<Args>, HandlerError>;
}

/// Answer of any serialisable type, returned by a handler.
///
/// Types of the standard library and values inside a `Result` need no wrapper.
///
/// ```
/// use roomcast_server::handler::Answer;
/// use roomcast_server::Io;
///
/// #[derive(serde::Serialize)]
/// struct User {
///     name: String,
/// }
///
/// let io = Io::new();
/// io.on("whoami", async || Answer(User { name: "ada".into() }));
/// io.on("find", async |name: String| if name == "ada" { Ok(User { name }) } else { Err("nobody") });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::exhaustive_structs, reason = "handlers build it")]
pub struct Answer<T>(pub T);

impl<T: Serialize> Outcome for Answer<T> {
    fn is_answer() -> bool {
        true
    }

    fn into_answer(self, is_wanted: bool) -> Result<Option<Args>, HandlerError> {
        answer(&self.0, is_wanted)
    }
}

impl Outcome for () {
    fn is_answer() -> bool {
        false
    }

    fn into_answer(self, _: bool) -> Result<Option<Args>, HandlerError> {
        Ok(None)
    }
}

impl Outcome for Receipt {
    fn is_answer() -> bool {
        false
    }

    fn into_answer(self, _: bool) -> Result<Option<Args>, HandlerError> {
        Ok(None)
    }
}

impl<T: Serialize + 'static, E: fmt::Display + 'static> Outcome for Result<T, E> {
    fn is_answer() -> bool {
        ![TypeId::of::<()>(), TypeId::of::<Receipt>()].contains(&TypeId::of::<T>())
    }

    fn into_answer(self, is_wanted: bool) -> Result<Option<Args>, HandlerError> {
        match self {
            Ok(value) => answer(&value, is_wanted && Self::is_answer()),
            Err(error) => Err(failure(&error)),
        }
    }
}

macro_rules! answers {
    ($(($($generics:tt)*) $type:ty),* $(,)?) => {$(
        impl<$($generics)*> Outcome for $type
        where
            Self: Serialize,
        {
            fn is_answer() -> bool {
                true
            }

            fn into_answer(self, is_wanted: bool) -> Result<Option<Args>, HandlerError> {
                answer(&self, is_wanted)
            }
        }
    )*};
}

answers! {
    () bool, () i8, () i16, () i32, () i64, () i128, () isize, () u8, () u16, () u32, () u64, () u128, () usize,
    () f32, () f64, () char, () String, () &'static str, () Cow<'static, str>, () Bytes, () Value,
    () serde_json::Map<String, Value>, () SocketId, () Room,
    (T) Option<T>, (T) Box<T>, (T) Vec<T>, (T) VecDeque<T>, (T, const N: usize) [T; N],
    (T) BTreeSet<T>, (T, S) HashSet<T, S>, (K, V) BTreeMap<K, V>, (K, V, S) HashMap<K, V, S>,
    (A, B) (A, B), (A, B, C) (A, B, C), (A, B, C, D) (A, B, C, D), (A, B, C, D, E) (A, B, C, D, E),
    (A, B, C, D, E, F) (A, B, C, D, E, F),
}

fn answer(value: &impl Serialize, is_wanted: bool) -> Result<Option<Args>, HandlerError> {
    if !is_wanted {
        return Ok(None);
    }
    (value,).into_args().map(Some).map_err(|error| failure(&error))
}

/// Takes the acknowledgement of the event if the handler answers by its return value.
#[inline]
pub(crate) fn answered_by<R: Outcome>(event: &mut HandlerInput<'_>) -> Option<Ack> {
    if R::is_answer() { event.ack.take() } else { None }
}

/// Sends the answer of a completed handler.
#[inline]
pub(crate) fn settle<R: Outcome>(outcome: R, ack: Option<Ack>) -> Result<(), HandlerError> {
    match (outcome.into_answer(ack.is_some())?, ack) {
        (Some(args), Some(ack)) => ack.send(args).map(drop).map_err(|error| failure(&error)),
        _ => Ok(()),
    }
}
