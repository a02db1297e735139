//! Handlers: plain functions, async or not, whose parameters say what they want of an event

use std::any::type_name;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytestring::ByteString;
use futures_util::FutureExt as _;
use roomcast_core::{Args, ArgsError, CloseReason};
use serde::de::DeserializeOwned;

use crate::app::error::EventError;
use crate::app::handler::outcome::{self, Outcome};
use crate::app::handler::signature::{Parameter, Signature, Takes};
use crate::app::handler::slot;
use crate::app::model::ack::Ack;
use crate::app::model::event_input::{AnyHandler, Beside, HandlerInput};
use crate::app::model::event_rewrite::EventRewrite;
use crate::app::model::handler_future::{HandlerFuture, Started};
use crate::app::model::io::Io;
use crate::app::model::socket::Socket;

/// A function that handles events, async or not
///
/// # Parameters
///
/// A handler has up to eight, each of which says what it wants. Those that are known by their type take their part of
/// the event:
///
/// | Parameter | is |
/// | --- | --- |
/// | [`Socket`], or `&Socket` as the first one where the handler is not async | the client |
/// | [`Io`] | the server |
/// | [`State<T>`](crate::State) | what was given to [`IoBuilder::state`](crate::config::IoBuilder::state) |
/// | [`Extension<T>`](crate::extract::Extension) | what a layer in front of the server put beside the request |
/// | [`Auth<T>`](Auth) | what the client showed when it asked to join the namespace |
/// | [`Args`] | all arguments that are left, unparsed; the last one that takes arguments |
/// | [`Ack`] | the acknowledgement, to answer by hand or later |
/// | [`EventName`] | the name of the event |
/// | [`CloseReason`] | why the client left, in `on_disconnecting` and `on_disconnect` |
/// | [`EventError`] | what went wrong, in `on_error` |
/// | [`EventRewrite`] | the event, to be changed, in an event middleware |
///
/// Each of the others takes the next argument that the client sent, and may be anything that serde deserialises. An
/// argument that is missing reads as `null`, so `Option` makes it optional.
///
/// An argument that does not fit costs the event: the handler is not called, and [`on_error`](Io::on_error) hears of it.
/// A parameter of type `Result<T, ArgsError>` takes the error instead, so that the handler can answer the caller.
///
/// # What it returns
///
/// Nothing, or the answer: a value goes to a client that asked for one, as one argument. `bool`, numbers, text,
/// [`Bytes`](crate::Bytes), [`Value`](crate::Value), collections and tuples of what serialises are returned as they are,
/// any other type in [`Answer`](crate::handler::Answer). Or a `Result` of any type that serialises, with an error that is `Display`: an error
/// is logged with the name of the event, and told to `on_error`. A [`Receipt`](crate::emit::Receipt) is no answer, so `emit` may stand at the
/// end. A handler that takes [`Ack`] answers by that alone.
///
/// A handler that fails, panics, or is given arguments that do not fit costs that event and nothing else. The caller is
/// told nothing, and waits for its own timeout, unless an `on_error` handler answers.
///
/// # When it runs
///
/// Handlers of one client start in the order in which its events came, each running to its first wait before
/// the next starts. One that never waits need not be async, and is cheaper by that; it may borrow its socket, as its
/// first parameter. While it computes, or blocks, all
/// clients of its thread stand still; give long work to `tokio::task::spawn_blocking`.
///
/// ```
/// use roomcast_server::emit::Receipt;
/// use roomcast_server::extract::ArgsError;
/// use roomcast_server::{Ack, EmitError, Io, Socket};
///
/// async fn say(socket: Socket, room: String, text: String) -> Result<Receipt, EmitError> {
///     socket.to(&room).emit("said", (socket.id().as_str(), &text))
/// }
///
/// let io = Io::new();
/// io.on("say", say);
/// io.on("move", |socket: &Socket, x: f32, y: f32| socket.broadcast().emit("moved", (socket.id().as_str(), x, y)));
/// io.on("double", async |number: i64| number * 2); // the answer
/// io.on("halve", async |number: Result<i64, ArgsError>| match number {
///     Ok(number) => Ok(number / 2),
///     Err(_) => Err("not a number"), // logged; the next one answers
/// });
/// io.on("sqrt", async |number: Result<f64, ArgsError>, ack: Ack| match number {
///     Ok(number) => ack.send(number.sqrt()),
///     Err(error) => ack.send(("error", error.to_string())),
/// });
/// ```
///
/// # Compile errors
///
/// If a named function does not compile as a handler, `#[roomcast::debug_handler]` before it says which of its
/// parameters is at fault, or whether what it returns is. An async closure that captures, `async move |..|`, is not
/// `Fn`, since its future borrows from it: wrap it in [`cloned`](crate::handler::cloned), or take [`State`](crate::State).
///
/// # Registration
///
/// What does not fit where it is registered panics there, with the reason: an argument behind [`Args`], arguments in a
/// handler of `on_connect`, a middleware that returns a value instead of a `Result`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not a handler",
    note = "put `#[roomcast::debug_handler]` on a named function to be told which part of it is at fault",
    note = "a handler has up to eight parameters, none of them borrowed (`String`, not `&str`); only if it is not async can its first one be `&Socket`",
    note = "each parameter is `Socket`, `Io`, `State<T>`, `Extension<T>`, `Auth<T>`, `Ack`, `Args`, `EventName`, `CloseReason`, `EventError`, `EventRewrite`, an argument that implements `serde::Deserialize`, or `Result<T, ArgsError>` of one; `State` and `Extension` are Roomcast's, not axum's",
    note = "it returns `()`, a `Receipt`, an answer such as `String`, `Vec<_>`, `Value` or `Answer<T>`, or a `Result<T, E>` where `T: Serialize` and `E: Display`",
    note = "if it is async, its future is `Send`: no `Rc` and no guard of a `std` lock is held across an `.await`",
    note = "an `async move |..|` closure that captures is not `Fn`; wrap it as `roomcast::handler::cloned(async move |..| ..)`, or take `State<T>`"
)]
pub trait Handler<M>: Send + Sync + 'static {
    /// Takes the arguments out of the event and makes the future that handles it
    ///
    /// A function that is not async handles it right here.
    ///
    /// # Errors
    /// When an argument does not fit its parameter.
    fn call(&self, event: &mut HandlerInput<'_>) -> Result<HandlerFuture, ArgsError>;

    /// Does what [`call`](Self::call) does, and polls the future for the first time
    ///
    /// Functions, async or not, need no memory of their own to end here.
    ///
    /// # Errors
    /// When an argument does not fit its parameter.
    fn start(&self, event: &mut HandlerInput<'_>, cx: &mut Context<'_>) -> Result<Started, ArgsError> {
        let mut future = self.call(event)?;
        Ok(match future.as_mut().poll(cx) {
            Poll::Ready(outcome) => Started::Ended(outcome),
            Poll::Pending => Started::Waits(future),
        })
    }

    /// Describes its parameters and what it returns, which is checked when it is registered.
    ///
    /// Default: one that fits everywhere.
    fn signature(&self) -> Signature {
        Signature::default()
    }
}

/// A parameter of a handler
///
/// `M` only tells the kinds of parameters apart and is inferred. A type that takes something else of an event
/// implements `FromEvent<ByType>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of a handler",
    label = "cannot be taken from an event",
    note = "an argument of the event implements `serde::Deserialize` without borrowed data; for a type of your own add `#[derive(serde::Deserialize)]`",
    note = "other parameters are `Socket`, `Io`, `State<T>`, `Extension<T>`, `Auth<T>`, `Ack`, `Args`, `EventName`, `CloseReason`, `EventError`, `EventRewrite`, or `Result<T, ArgsError>` of one"
)]
pub trait FromEvent<M>: Sized {
    /// What other parameters can no longer take, or what only some events have
    ///
    /// Checked when a handler is registered. Default: [`Takes::Nothing`].
    const TAKES: Takes = Takes::Nothing;

    /// Takes its part of the event
    ///
    /// # Errors
    /// When the next argument does not fit.
    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError>;
}

impl Parameter {
    pub(crate) fn of<T: FromEvent<M>, M>() -> Self {
        Self::new(T::TAKES, type_name::<T>())
    }
}

/// Marks parameters that are arguments of the event
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "it is a marker")]
pub struct ByArgument;

/// Marks parameters that are known by their type
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "it is a marker")]
pub struct ByType;

/// Marks parameters that take an error instead of failing
#[derive(Debug)]
pub struct Fallible<M>(PhantomData<M>);

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> FromEvent<ByArgument> for T {
    const TAKES: Takes = Takes::Argument;

    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError> {
        event.args.reader().next()
    }
}

impl FromEvent<ByType> for Socket {
    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError> {
        Ok(event.socket.clone())
    }
}

impl FromEvent<ByType> for Io {
    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError> {
        Ok(event.socket.io())
    }
}

impl FromEvent<ByType> for Ack {
    const TAKES: Takes = Takes::Ack;

    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError> {
        Ok(event.ack.take().unwrap_or_else(Self::unwanted))
    }
}

impl FromEvent<ByType> for Args {
    const TAKES: Takes = Takes::Rest;

    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError> {
        Ok(event.args.take_rest())
    }
}

/// The name of the event; for handlers that serve several
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "parameters of handlers take it apart")]
pub struct EventName(pub ByteString);

impl FromEvent<ByType> for EventName {
    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError> {
        Ok(Self(event.name.clone()))
    }
}

impl FromEvent<ByType> for EventRewrite {
    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError> {
        match event.beside {
            Beside::Rewrite(rewrite) => Ok(rewrite.get_or_init(Self::default).clone()),
            _ => Err(ArgsError::Mismatch {
                position: 0,
                reason: "only a middleware registered by `event_middleware` can take an `EventRewrite`"
                    .into(),
            }),
        }
    }
}

impl FromEvent<ByType> for CloseReason {
    const TAKES: Takes = Takes::CloseReason;

    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError> {
        Ok(match event.beside {
            Beside::Reason(reason) => reason,
            _ => Self::TransportClose,
        })
    }
}

impl FromEvent<ByType> for EventError {
    const TAKES: Takes = Takes::Error;

    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError> {
        match event.beside {
            Beside::Error(error) => Ok(error.clone()),
            _ => Err(ArgsError::Mismatch {
                position: 0,
                reason: "only a handler registered by `on_error` can take an `EventError`".into(),
            }),
        }
    }
}

/// What a client showed when it asked to join the namespace; an empty object if it showed nothing
///
/// A Socket.IO client shows its `auth`. A plain WebSocket client shows the query parameters of its URL, as an object of
/// texts: `?token=x` is `{"token": "x"}`, and a name that comes several times is a list. One that offers the
/// subprotocols `["bearer", token]` shows that as `token` too; see [`Endpoint::plain`](crate::transport::Endpoint::plain).
///
/// If it does not fit, a middleware with this parameter refuses the client as `invalid auth` before it is called;
/// `Result<Auth<T>, ArgsError>` lets the middleware answer for itself, and [`Auth<Value>`](Auth) fits whatever is shown.
///
/// ```
/// use roomcast_server::extract::ArgsError;
/// use roomcast_server::{Auth, ConnectError, Io};
///
/// #[derive(serde::Deserialize)]
/// struct Ticket {
///     token: String,
/// }
///
/// let io = Io::new();
/// io.middleware(async |ticket: Result<Auth<Ticket>, ArgsError>| match ticket {
///     Ok(Auth(ticket)) if ticket.token == "sesame" => Ok(()),
///     Ok(_) => Err(ConnectError::new("not you")),
///     Err(_) => Err(ConnectError::new("show a ticket")),
/// });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "parameters of handlers take it apart")]
pub struct Auth<T>(pub T);

impl<T: DeserializeOwned> FromEvent<ByType> for Auth<T> {
    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError> {
        let args = match event.beside {
            Beside::Auth(auth) if !auth.is_empty() => ByteString::from(auth),
            _ => event.socket.auth_json(),
        };
        Args::from_validated(args, Vec::new()).get::<T>(0).map(Auth)
    }
}

/// The parameter, or why what the client sent or showed does not fit it: the handler is called all the same
///
/// ```
/// use roomcast_server::extract::ArgsError;
/// use roomcast_server::{Ack, Io};
///
/// let io = Io::new();
/// io.on("double", async |number: Result<i64, ArgsError>, ack: Ack| match number {
///     Ok(number) => ack.send(number * 2),
///     Err(error) => ack.send(("error", error.to_string())),
/// });
/// ```
#[diagnostic::do_not_recommend]
impl<M, T: FromEvent<M>> FromEvent<Fallible<M>> for Result<T, ArgsError> {
    const TAKES: Takes = T::TAKES;

    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError> {
        Ok(T::from_event(event))
    }
}

macro_rules! handler {
    ($($param:ident $marker:ident),*) => {
        #[diagnostic::do_not_recommend]
        impl<F, Fut, $($param, $marker),*> Handler<(($($marker,)*), ($($param,)*))> for F
        where
            F: Fn($($param),*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            Fut::Output: Outcome,
            $($param: FromEvent<$marker>),*
        {
            #[allow(non_snake_case, reason = "parameters bear the names of their types")]
            fn call(&self, event: &mut HandlerInput<'_>) -> Result<HandlerFuture, ArgsError> {
                $(let $param = $param::from_event(event)?;)*
                let ack = outcome::answered_by::<Fut::Output>(event);
                let future = self($($param),*);
                Ok(Box::pin(future.map(|outcome| outcome::settle(outcome, ack))))
            }

            #[allow(non_snake_case, reason = "parameters bear the names of their types")]
            fn start(
                &self,
                event: &mut HandlerInput<'_>,
                cx: &mut Context<'_>,
            ) -> Result<Started, ArgsError> {
                $(let $param = $param::from_event(event)?;)*
                let ack = outcome::answered_by::<Fut::Output>(event);
                let future = self($($param),*);
                Ok(slot::start(future.map(|outcome| outcome::settle(outcome, ack)), cx))
            }

            fn signature(&self) -> Signature {
                Signature::new::<Fut::Output>(&[$(Parameter::of::<$param, $marker>()),*])
            }
        }

        #[diagnostic::do_not_recommend]
        impl<F, R, $($param, $marker),*> Handler<(AtOnce, ($($marker,)*), ($($param,)*))> for F
        where
            F: Fn($($param),*) -> R + Send + Sync + 'static,
            R: Outcome,
            $($param: FromEvent<$marker>),*
        {
            #[allow(non_snake_case, reason = "parameters bear the names of their types")]
            fn call(&self, event: &mut HandlerInput<'_>) -> Result<HandlerFuture, ArgsError> {
                $(let $param = $param::from_event(event)?;)*
                let ack = outcome::answered_by::<R>(event);
                let outcome = outcome::settle(self($($param),*), ack);
                Ok(Box::pin(std::future::ready(outcome)))
            }

            #[allow(non_snake_case, reason = "parameters bear the names of their types")]
            fn start(
                &self,
                event: &mut HandlerInput<'_>,
                _: &mut Context<'_>,
            ) -> Result<Started, ArgsError> {
                $(let $param = $param::from_event(event)?;)*
                let ack = outcome::answered_by::<R>(event);
                Ok(Started::Ended(outcome::settle(self($($param),*), ack)))
            }

            fn signature(&self) -> Signature {
                Signature::new::<R>(&[$(Parameter::of::<$param, $marker>()),*])
            }
        }

        #[diagnostic::do_not_recommend]
        impl<F, R, $($param, $marker),*> Handler<(Borrowing, ($($marker,)*), ($($param,)*))> for F
        where
            F: Fn(&Socket, $($param),*) -> R + Send + Sync + 'static,
            R: Outcome,
            $($param: FromEvent<$marker>),*
        {
            #[allow(non_snake_case, reason = "parameters bear the names of their types")]
            fn call(&self, event: &mut HandlerInput<'_>) -> Result<HandlerFuture, ArgsError> {
                $(let $param = $param::from_event(event)?;)*
                let ack = outcome::answered_by::<R>(event);
                let outcome = outcome::settle(self(event.socket, $($param),*), ack);
                Ok(Box::pin(std::future::ready(outcome)))
            }

            #[allow(non_snake_case, reason = "parameters bear the names of their types")]
            fn start(
                &self,
                event: &mut HandlerInput<'_>,
                _: &mut Context<'_>,
            ) -> Result<Started, ArgsError> {
                $(let $param = $param::from_event(event)?;)*
                let ack = outcome::answered_by::<R>(event);
                Ok(Started::Ended(outcome::settle(self(event.socket, $($param),*), ack)))
            }

            fn signature(&self) -> Signature {
                let socket = Parameter::borrowed_socket();
                Signature::new::<R>(&[socket, $(Parameter::of::<$param, $marker>()),*])
            }
        }
    };
}

/// Marks handlers that are not async
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "it is a marker")]
pub struct AtOnce;

/// Marks handlers that are not async and borrow their socket
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "it is a marker")]
pub struct Borrowing;

handler!();
handler!(A MA);
handler!(A MA, B MB);
handler!(A MA, B MB, C MC);
handler!(A MA, B MB, C MC, D MD);
handler!(A MA, B MB, C MC, D MD, E ME);
handler!(A MA, B MB, C MC, D MD, E ME, G MG);
handler!(A MA, B MB, C MC, D MD, E ME, G MG, H MH);
handler!(A MA, B MB, C MC, D MD, E ME, G MG, H MH, I MI);

/// Reduces a handler to its call.
pub(crate) fn erase<M: 'static>(handler: impl Handler<M>) -> AnyHandler {
    Arc::new(move |event, cx| handler.start(event, cx))
}
