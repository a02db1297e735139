//! Typed events, shared by handlers and emitters and checked at compile time

mod read;
mod shape;
mod write;

#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use roomcast_core::{Args, ArgsError, IntoArgs, Receipt, SocketId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::app::emit::answers::Answers;
use crate::app::error::{AckError, EmitError, HandlerError, failure};
use crate::app::handler::call::{AtOnce, Fallible, Handler};
use crate::app::model::ack::Ack;
use crate::app::model::event_input::HandlerInput;
use crate::app::model::handler_future::HandlerFuture;
use crate::app::model::socket::Socket;

/// Typed event with a fixed name, arguments and answer.
///
/// Serde determines the arguments: a tuple struct has one argument per field, a struct with named fields is a single
/// argument (an object), and a unit struct has none. `Bytes` are binary at any depth.
///
/// Handlers registered by `on_event` and events emitted by `emit_event` always agree on name, arguments and answer.
/// Untyped events can be used alongside.
///
/// ```
/// use roomcast_server::typed::{Event, NoAnswer};
/// use roomcast_server::{EmitError, Io, Socket};
/// use serde::{Deserialize, Serialize};
///
/// /// A message to a room, answered with the number of recipients
/// #[derive(Serialize, Deserialize)]
/// struct Say {
///     room: String,
///     text: String,
/// }
///
/// impl Event for Say {
///     const NAME: &'static str = "say";
///     type Answer = usize;
/// }
///
/// /// Sender and text: two arguments
/// #[derive(Serialize, Deserialize)]
/// struct Said(String, String);
///
/// impl Event for Said {
///     const NAME: &'static str = "said";
///     type Answer = NoAnswer;
/// }
///
/// let io = Io::new();
/// io.on_event(async |socket: Socket, say: Say| {
///     let said = Said(socket.id().to_string(), say.text);
///     let receipt = socket.to(say.room).emit_event(&said)?;
///     Ok::<_, EmitError>(receipt.queued) // the answer
/// });
/// ```
///
/// An answer of another type does not compile:
///
/// ```compile_fail,E0277
/// # use roomcast_server::typed::Event;
/// # use roomcast_server::{Io, Socket};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Say { room: String, text: String }
/// # impl Event for Say { const NAME: &'static str = "say"; type Answer = usize; }
/// # let io = Io::new();
/// io.on_event(async |socket: Socket, say: Say| "three");
/// ```
///
/// Emitting a type that is not an event does not compile either, nor does awaiting an answer of an event without one:
///
/// ```compile_fail,E0277
/// # let io = roomcast_server::Io::new();
/// io.emit_event(&"say").unwrap();
/// ```
///
/// ```compile_fail,E0277
/// # use roomcast_server::typed::{Event, NoAnswer};
/// # use roomcast_server::Socket;
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Said(String, String);
/// # impl Event for Said { const NAME: &'static str = "said"; type Answer = NoAnswer; }
/// # async fn ask(socket: Socket, said: Said) {
/// socket.emit_event_with_ack(&said).await.unwrap();
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no event",
    note = "implement `Event` for a type that is one event, `EventSet` for an enum of several"
)]
pub trait Event {
    /// Event name on the wire.
    const NAME: &'static str;
    /// Type of the answer: a single value, or [`NoAnswer`].
    type Answer;
}

/// Enum of typed events, one per variant, named by serde's name of the variant.
///
/// The fields of a variant are the arguments, as with [`Event`]. A single handler takes all variants, and a `match`
/// that misses one does not compile. Variants have no typed answer; a handler that takes [`Ack`] may answer with any
/// value.
///
/// ```
/// use roomcast_server::typed::EventSet;
/// use roomcast_server::{EmitError, Io, Socket};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(rename_all = "kebab-case")]
/// enum Chat {
///     Say { room: String, text: String }, // "say" with an object
///     StartTyping(String),                // "start-typing" with one argument
///     Moved(f64, f64),                    // "moved" with two
///     Bye,                                // "bye" with none
/// }
///
/// impl EventSet for Chat {}
///
/// let io = Io::new();
/// io.on_event(async |socket: Socket, event: Chat| {
///     match &event {
///         Chat::Say { room, .. } => socket.to(room).emit_event(&event)?,
///         Chat::StartTyping(_) | Chat::Moved(..) | Chat::Bye => socket.broadcast().emit_event(&event)?,
///     };
///     Ok::<_, EmitError>(())
/// });
/// ```
///
/// ```compile_fail,E0004
/// # use roomcast_server::typed::EventSet;
/// # use roomcast_server::{Io, Socket};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # enum Chat { Say(String), Bye }
/// # impl EventSet for Chat {}
/// # let io = Io::new();
/// io.on_event(async |socket: Socket, event: Chat| match event {
///     Chat::Say(text) => println!("{text}"), // and `Bye`?
/// });
/// ```
///
/// The enum must use serde's default representation. Untagged and internally tagged enums have no named variants, and
/// registering a handler for one panics.
pub trait EventSet {}

/// Answer type of events without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "it is a marker")]
pub struct NoAnswer;

/// Event that `on_event` can read: an [`Event`] or an [`EventSet`].
///
/// `M` distinguishes the two and is inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no event that can be read",
    note = "implement `Event` for a type that is one event, `EventSet` for an enum of several, and derive `Deserialize`"
)]
pub trait Schema<M>: Sized + Send + 'static {
    /// Type of the answer.
    type Answer;

    /// Returns the names of its events.
    fn names() -> Vec<&'static str>;

    /// Deserialises an event with one of these names.
    ///
    /// # Errors
    /// Returns an error if the arguments do not match.
    fn read(name: &str, args: &Args) -> Result<Self, ArgsError>;
}

/// Event that `emit_event` can write: an [`Event`] or an [`EventSet`] that serialises.
///
/// `M` distinguishes the two and is inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no event that can be emitted",
    note = "implement `Event` for a type that is one event, `EventSet` for an enum of several, and derive `Serialize`"
)]
pub trait Emitted<M> {
    /// Returns its name and arguments.
    ///
    /// # Errors
    /// Returns an error if it cannot be serialised, or is an [`EventSet`] but not an enum.
    fn write(&self) -> Result<(&'static str, Args), ArgsError>;
}

/// Marker of an [`Event`].
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "it is a marker")]
pub struct ByName;

/// Marker of an [`EventSet`].
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "it is a marker")]
pub struct ByVariant;

impl<E: Event + DeserializeOwned + Send + 'static> Schema<ByName> for E {
    type Answer = E::Answer;

    fn names() -> Vec<&'static str> {
        vec![E::NAME]
    }

    fn read(_: &str, args: &Args) -> Result<Self, ArgsError> {
        read::one(args)
    }
}

impl<E: EventSet + DeserializeOwned + Send + 'static> Schema<ByVariant> for E {
    type Answer = NoAnswer;

    fn names() -> Vec<&'static str> {
        shape::variants::<E>()
    }

    fn read(name: &str, args: &Args) -> Result<Self, ArgsError> {
        read::variant(name, args)
    }
}

/// Typed event or the mismatch of its arguments; the handler is called in both cases.
impl<M, E: Schema<M>> Schema<Fallible<M>> for Result<E, ArgsError> {
    type Answer = E::Answer;

    fn names() -> Vec<&'static str> {
        E::names()
    }

    fn read(name: &str, args: &Args) -> Result<Self, ArgsError> {
        Ok(E::read(name, args))
    }
}

impl<E: Event + Serialize> Emitted<ByName> for E {
    fn write(&self) -> Result<(&'static str, Args), ArgsError> {
        Ok((E::NAME, write::one(self)?))
    }
}

impl<E: EventSet + Serialize> Emitted<ByVariant> for E {
    fn write(&self) -> Result<(&'static str, Args), ArgsError> {
        write::variant(self)
    }
}

/// Handler of a typed event, async or not.
///
/// It takes the [`Socket`] and the event, and returns the answer or a `Result` of it, or `()` for an event with
/// [`NoAnswer`]. A handler that also takes the [`Ack`] answers through it. A handler that takes `Result<E, ArgsError>`
/// instead of the event is also called for mismatched arguments.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle an event of a schema",
    note = "it takes `Socket` and an event, and returns the event's `Answer` or a `Result` with it; or it takes `Ack` as well and returns nothing or a `Result<(), E>`"
)]
pub trait EventHandler<E, M>: Send + Sync + 'static {
    /// Returns the future that handles the event.
    fn call(&self, socket: Socket, event: E, ack: Ack) -> HandlerFuture;
}

impl<F, Fut, E, M> EventHandler<E, (M,)> for F
where
    F: Fn(Socket, E) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: Reply<E::Answer>,
    E: Schema<M>,
{
    fn call(&self, socket: Socket, event: E, ack: Ack) -> HandlerFuture {
        let reply = self(socket, event);
        Box::pin(async move {
            let Some(answer) = reply.await.into_answer()? else { return Ok(()) };
            ack.send(answer).map(drop).map_err(|error| failure(&error))
        })
    }
}

impl<F, Fut, E, M> EventHandler<E, (M, Ack)> for F
where
    F: Fn(Socket, E, Ack) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: Reply<NoAnswer>,
    E: Schema<M>,
{
    fn call(&self, socket: Socket, event: E, ack: Ack) -> HandlerFuture {
        let outcome = self(socket, event, ack);
        Box::pin(async move { outcome.await.into_answer().map(drop) })
    }
}

impl<F, R, E, M> EventHandler<E, (AtOnce, M, ())> for F
where
    F: Fn(Socket, E) -> R + Send + Sync + 'static,
    R: Reply<E::Answer>,
    E: Schema<M>,
{
    fn call(&self, socket: Socket, event: E, ack: Ack) -> HandlerFuture {
        let answered = match self(socket, event).into_answer() {
            Ok(Some(answer)) => ack.send(answer).map(drop).map_err(|error| failure(&error)),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        Box::pin(std::future::ready(answered))
    }
}

impl<F, R, E, M> EventHandler<E, (AtOnce, M, Ack)> for F
where
    F: Fn(Socket, E, Ack) -> R + Send + Sync + 'static,
    R: Reply<NoAnswer>,
    E: Schema<M>,
{
    fn call(&self, socket: Socket, event: E, ack: Ack) -> HandlerFuture {
        Box::pin(std::future::ready(self(socket, event, ack).into_answer().map(drop)))
    }
}

/// Return type of a handler whose event has the answer type `A`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the answer of this event, which is `{A}`",
    note = "a handler returns the answer, or a `Result` with it; `()` or a `Receipt` where there is `NoAnswer`"
)]
pub trait Reply<A> {
    /// Returns the answer as arguments, if there is one.
    ///
    /// # Errors
    /// Returns an error if the handler failed, or the answer cannot be serialised.
    fn into_answer(self) -> Result<Option<Args>, HandlerError>;
}

impl Reply<NoAnswer> for () {
    fn into_answer(self) -> Result<Option<Args>, HandlerError> {
        Ok(None)
    }
}

impl<E: fmt::Display + 'static> Reply<NoAnswer> for Result<(), E> {
    fn into_answer(self) -> Result<Option<Args>, HandlerError> {
        self.map(|()| None).map_err(|error| failure(&error))
    }
}

impl Reply<NoAnswer> for Receipt {
    fn into_answer(self) -> Result<Option<Args>, HandlerError> {
        Ok(None)
    }
}

impl<E: fmt::Display + 'static> Reply<NoAnswer> for Result<Receipt, E> {
    fn into_answer(self) -> Result<Option<Args>, HandlerError> {
        self.map(|_| None).map_err(|error| failure(&error))
    }
}

impl<A: Serialize> Reply<A> for A {
    fn into_answer(self) -> Result<Option<Args>, HandlerError> {
        (&self,).into_args().map(Some).map_err(|error| failure(&error))
    }
}

impl<A: Serialize, E: fmt::Display + 'static> Reply<A> for Result<A, E> {
    fn into_answer(self) -> Result<Option<Args>, HandlerError> {
        self.map_err(|error| failure(&error))?.into_answer()
    }
}

/// Answers to one typed event emitted with an ack.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TypedAnswers<A> {
    /// Answers by socket, in the order of arrival.
    pub answers: Vec<(SocketId, A)>,
    /// Sockets whose answer has the wrong type, with the error.
    pub mismatched: Vec<(SocketId, ArgsError)>,
    /// Sockets that did not answer in time.
    pub missing: Vec<SocketId>,
    /// Sockets that disconnected, or whose kind of client cannot answer.
    pub gone: Vec<SocketId>,
}

impl<A: DeserializeOwned> From<Answers> for TypedAnswers<A> {
    fn from(all: Answers) -> Self {
        let (mut answers, mut mismatched) = (Vec::new(), Vec::new());
        for (socket, args) in all.answers {
            match args.get(0) {
                Ok(answer) => answers.push((socket, answer)),
                Err(error) => mismatched.push((socket, error)),
            }
        }
        Self { answers, mismatched, missing: all.missing, gone: all.gone }
    }
}

/// Adapts a typed handler to an untyped one
struct ByEvent<H, E, M> {
    handler: H,
    event: PhantomData<fn() -> (E, M)>,
}

impl<H, E, M> ByEvent<H, E, M> {
    fn new(handler: H) -> Self {
        Self { handler, event: PhantomData }
    }
}

#[diagnostic::do_not_recommend]
impl<H, E, M, S> Handler<ByName> for Arc<ByEvent<H, E, (M, S)>>
where
    H: EventHandler<E, S>,
    E: Schema<M>,
    M: 'static,
    S: 'static,
{
    fn call(&self, event: &mut HandlerInput<'_>) -> Result<HandlerFuture, ArgsError> {
        let read = E::read(event.name, &event.args.take_rest())?;
        let ack = event.ack.take().unwrap_or_else(Ack::unwanted);
        Ok(self.handler.call(event.socket.clone(), read, ack))
    }
}

/// Implements `on_event` for types with handlers
macro_rules! on_event {
    ($($type:ty),*) => {$(
        impl $type {
            #[doc = include_str!("../../../docs/listening/on_event.md")]
            #[track_caller]
            pub fn on_event<E, M, S>(&self, handler: impl EventHandler<E, S>) -> &Self
            where
                E: Schema<M>,
                M: 'static,
                S: 'static,
            {
                let handler = Arc::new(ByEvent::<_, E, (M, S)>::new(handler));
                for name in E::names() {
                    self.on(name, handler.clone());
                }
                self
            }
        }
    )*};
}

on_event!(crate::Io, crate::namespace::NamespaceHandle, Socket);

/// Implements `emit_event` for types that emit to several sockets
macro_rules! emit_event {
    ($($type:ty),*) => {$(
        impl $type {
            #[doc = include_str!("../../../docs/emit_event.md")]
            pub fn emit_event<M>(&self, event: &impl Emitted<M>) -> Result<crate::emit::Receipt, EmitError> {
                let (name, args) = event.write()?;
                self.emit(name, args)
            }

            #[doc = include_str!("../../../docs/emit_event_with_ack.md")]
            pub async fn emit_event_with_ack<E>(&self, event: &E) -> Result<TypedAnswers<E::Answer>, EmitError>
            where
                E: Event + Serialize,
                E::Answer: DeserializeOwned,
            {
                Ok(self.emit_with_ack(E::NAME, write::one(event)?).await?.into())
            }
        }
    )*};
}

emit_event!(crate::Io, crate::namespace::NamespaceHandle, crate::emit::Emit);

/// Implements `emit_event` for types that emit to one socket
macro_rules! emit_event_to_one {
    ($($type:ty),*) => {$(
        impl $type {
            #[doc = include_str!("../../../docs/emit_event.md")]
            pub fn emit_event<M>(&self, event: &impl Emitted<M>) -> Result<crate::emit::Receipt, EmitError> {
                let (name, args) = event.write()?;
                self.emit(name, args)
            }

            /// Emits a typed event to this client and waits for its answer.
            ///
            /// # Errors
            /// As [`emit_with_ack`](Self::emit_with_ack), and if the answer has another type.
            pub async fn emit_event_with_ack<E>(&self, event: &E) -> Result<E::Answer, AckError>
            where
                E: Event + Serialize,
                E::Answer: DeserializeOwned,
            {
                let args = write::one(event).map_err(EmitError::from)?;
                Ok(self.emit_with_ack(E::NAME, args).await?.get(0)?)
            }
        }
    )*};
}

emit_event_to_one!(Socket, crate::emit::SocketEmit, crate::rooms::RemoteSocket);
