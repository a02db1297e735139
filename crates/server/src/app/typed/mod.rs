//! Events by a schema: each is a type that handlers and emitters share, checked when they are compiled

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

/// An event that both sides know by its type
///
/// The type is what serde makes of it: the fields of a tuple struct are the arguments one by one, a struct with named
/// fields is one argument (an object), and a unit struct is none. `Bytes` are binary wherever they stand.
///
/// What is registered by `on_event` and emitted by `emit_event` cannot disagree about name, arguments or answer. Events
/// without a schema remain possible beside it.
///
/// ```
/// use roomcast_server::typed::{Event, NoAnswer};
/// use roomcast_server::{EmitError, Io, Socket};
/// use serde::{Deserialize, Serialize};
///
/// /// Somebody says something in a room; answered with the number of those who are told
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
/// /// Who said what: two arguments
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
/// Neither does emitting what is no event, or asking for an answer where there is none:
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
    /// The name that clients know it by
    const NAME: &'static str;
    /// What it is answered with: one value, or [`NoAnswer`]
    type Answer;
}

/// An enum each of whose variants is an event, by the name that serde gives the variant
///
/// What a variant holds are the arguments, as with [`Event`]. One handler takes them all, and a `match` that misses
/// one does not compile. Variants have no answer of a type; a handler that takes [`Ack`] answers with anything.
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
/// The enum has to be as serde makes it by default: one that is untagged, or tagged inside, has no variants with names
/// of their own, and registering a handler for it panics.
pub trait EventSet {}

/// The answer of an event that has none
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "it is a marker")]
pub struct NoAnswer;

/// What `on_event` can read and `emit_event` can write: an [`Event`] or an [`EventSet`]
///
/// `M` only tells the two apart and is inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no event that can be read",
    note = "implement `Event` for a type that is one event, `EventSet` for an enum of several, and derive `Deserialize`"
)]
pub trait Schema<M>: Sized + Send + 'static {
    /// What it is answered with
    type Answer;

    /// The names of the events that it stands for
    fn names() -> Vec<&'static str>;

    /// Reads an event of one of these names
    ///
    /// # Errors
    /// When the arguments do not fit.
    fn read(name: &str, args: &Args) -> Result<Self, ArgsError>;
}

/// An event that can be written: an [`Event`] or an [`EventSet`] that serialises
///
/// `M` only tells the two apart and is inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no event that can be emitted",
    note = "implement `Event` for a type that is one event, `EventSet` for an enum of several, and derive `Serialize`"
)]
pub trait Emitted<M> {
    /// Its name and its arguments
    ///
    /// # Errors
    /// When it cannot be serialised, or is a set that is no enum.
    fn write(&self) -> Result<(&'static str, Args), ArgsError>;
}

/// Marks an [`Event`]
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "it is a marker")]
pub struct ByName;

/// Marks an [`EventSet`]
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

/// An event of a schema, or why its arguments do not fit: the handler is called all the same
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

/// A function that handles an event of a schema, async or not
///
/// It takes the [`Socket`] and the event, and returns the answer, or a `Result` with it; or nothing for an event that
/// has [`NoAnswer`]. One that takes the [`Ack`] as well answers by itself. One that takes `Result<E, ArgsError>` in the
/// place of the event is called for arguments that do not fit too.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle an event of a schema",
    note = "it takes `Socket` and an event, and returns the event's `Answer` or a `Result` with it; or it takes `Ack` as well and returns nothing or a `Result<(), E>`"
)]
pub trait EventHandler<E, M>: Send + Sync + 'static {
    /// Makes the future that handles the event
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

/// What a handler of an event may return whose answer is an `A`
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the answer of this event, which is `{A}`",
    note = "a handler returns the answer, or a `Result` with it; `()` or a `Receipt` where there is `NoAnswer`"
)]
pub trait Reply<A> {
    /// The answer as arguments, if there is one
    ///
    /// # Errors
    /// When the handler failed, or the answer cannot be serialised.
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

/// What came back from one event of a schema that asked for answers
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TypedAnswers<A> {
    /// Who answered what, in the order in which the answers came
    pub answers: Vec<(SocketId, A)>,
    /// Who answered something that does not fit, and why not
    pub mismatched: Vec<(SocketId, ArgsError)>,
    /// Who did not answer in time
    pub missing: Vec<SocketId>,
    /// Who went away, or uses a kind of client that cannot be asked
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

/// A handler of an event of a schema as a handler of any event
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

/// `on_event`, the same for all that has handlers
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

/// `emit_event`, the same for all that emits to several
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

/// `emit_event`, the same for all that emits to one
macro_rules! emit_event_to_one {
    ($($type:ty),*) => {$(
        impl $type {
            #[doc = include_str!("../../../docs/emit_event.md")]
            pub fn emit_event<M>(&self, event: &impl Emitted<M>) -> Result<crate::emit::Receipt, EmitError> {
                let (name, args) = event.write()?;
                self.emit(name, args)
            }

            /// Emits an event of a schema to this client and waits for its answer
            ///
            /// # Errors
            /// As [`emit_with_ack`](Self::emit_with_ack), and when the answer is of another type.
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
