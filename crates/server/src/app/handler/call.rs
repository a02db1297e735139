//! Handlers: functions, async or not, whose parameters are extracted from an event.

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
use crate::app::handler::first_poll;
use crate::app::handler::outcome::{self, Outcome};
use crate::app::handler::signature::{Parameter, Signature, Takes};
use crate::app::model::ack::Ack;
use crate::app::model::event_input::{AnyHandler, EventContext, HandlerInput};
use crate::app::model::event_rewrite::EventRewrite;
use crate::app::model::handler_future::{HandlerFuture, Started};
use crate::app::model::io::Io;
use crate::app::model::socket::Socket;

/// Function that handles an event, async or not.
///
/// # Parameters
///
/// A handler has up to eight parameters. The following types are extractors, each of which takes its part of the event:
///
/// | Parameter | Value |
/// | --- | --- |
/// | [`Socket`], or `&Socket` as the first parameter of a handler that is not async | the socket of the client |
/// | [`Io`] | the server |
/// | [`State<T>`](crate::State) | the value passed to [`IoBuilder::state`](crate::config::IoBuilder::state) |
/// | [`Extension<T>`](crate::extract::Extension) | an extension of the handshake request, set by a layer in front of the server |
/// | [`Auth<T>`](Auth) | the auth payload of the client |
/// | [`Args`] | all remaining arguments, unparsed; no parameter after it may take an argument |
/// | [`Ack`] | the acknowledgement, to answer explicitly or later |
/// | [`EventName`] | the name of the event |
/// | [`CloseReason`] | the reason for the disconnect, in `on_disconnecting` and `on_disconnect` |
/// | [`EventError`] | the failure, in `on_error` |
/// | [`EventRewrite`] | changes to the event, in an event middleware |
///
/// Any other type takes the next argument of the event and must implement serde's `Deserialize`. A missing argument
/// deserialises as `null`, so `Option` makes it optional.
///
/// If an argument does not match its parameter, the handler does not run and [`on_error`](Io::on_error) receives the
/// failure. A parameter of type `Result<T, ArgsError>` receives the error instead, so that the handler can answer the
/// client.
///
/// # Return values
///
/// A handler returns `()`, an answer, or a `Result`:
///
/// - An answer is sent as one argument to a client that requested an acknowledgement. `bool`, numbers, text,
///   [`Bytes`](crate::Bytes), [`Value`](crate::Value), and collections and tuples of serialisable types can be returned
///   directly; wrap any other type in [`Answer`](crate::handler::Answer).
/// - A `Result` may hold any serialisable type as the answer and any `Display` type as the error. An error is logged
///   with the event name and passed to `on_error`.
/// - A [`Receipt`](crate::emit::Receipt) is not an answer, so `emit` may be the last expression.
/// - A handler that takes [`Ack`] answers only through it.
///
/// If a handler fails, panics, or does not match the arguments, only that event is lost. The client receives no answer
/// and runs into its own timeout, unless an `on_error` handler answers.
///
/// # When it runs
///
/// Handlers of one client start in the order in which its events arrive; each runs to its first pending `.await` before
/// the next one starts. A handler that never waits need not be async, which is cheaper; it may then borrow its socket
/// as the first parameter.
///
/// A handler that computes for long or blocks stalls all clients of its thread; move such work to
/// `tokio::task::spawn_blocking`.
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
/// If a named function is not accepted as a handler, add `#[roomcast::debug_handler]` for an error that names the
/// invalid parameter or return type. A closure `async move |..|` that captures variables is not `Fn`, since its
/// future borrows from it: wrap it in [`cloned`](crate::handler::cloned), or use [`State`](crate::State).
///
/// # Registration
///
/// Registration panics, with the reason, if a handler does not fit: it takes an argument after [`Args`], it takes
/// arguments in `on_connect`, or it is a middleware that returns a value instead of a `Result`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not a handler",
    note = "add `#[roomcast::debug_handler]` to a named function for an error that names its invalid part",
    note = "a handler has up to eight parameters, none of them borrowed (`String`, not `&str`); only if it is not async can its first one be `&Socket`",
    note = "each parameter is `Socket`, `Io`, `State<T>`, `Extension<T>`, `Auth<T>`, `Ack`, `Args`, `EventName`, `CloseReason`, `EventError`, `EventRewrite`, an argument that implements `serde::Deserialize`, or `Result<T, ArgsError>` of one; `State` and `Extension` are Roomcast's, not axum's",
    note = "it returns `()`, a `Receipt`, an answer such as `String`, `Vec<_>`, `Value` or `Answer<T>`, or a `Result<T, E>` where `T: Serialize` and `E: Display`",
    note = "if it is async, its future is `Send`: no `Rc` and no guard of a `std` lock is held across an `.await`",
    note = "an `async move |..|` closure that captures is not `Fn`; wrap it as `roomcast::handler::cloned(async move |..| ..)`, or take `State<T>`"
)]
pub trait Handler<M>: Send + Sync + 'static {
    /// Extracts the parameters from the event and returns the future that handles it.
    ///
    /// A handler that is not async runs to completion in this call.
    ///
    /// # Errors
    /// Returns an error if an argument does not match its parameter.
    fn call(&self, event: &mut HandlerInput<'_>) -> Result<HandlerFuture, ArgsError>;

    /// Calls the handler like [`call`](Self::call) and polls its future once.
    ///
    /// A handler that completes in this call, async or not, needs no allocation for its future.
    ///
    /// # Errors
    /// Returns an error if an argument does not match its parameter.
    fn start(&self, event: &mut HandlerInput<'_>, cx: &mut Context<'_>) -> Result<Started, ArgsError> {
        let mut future = self.call(event)?;
        Ok(match future.as_mut().poll(cx) {
            Poll::Ready(outcome) => Started::Ended(outcome),
            Poll::Pending => Started::Waits(future),
        })
    }

    /// Returns the parameters and the return type, which are checked at registration.
    ///
    /// Default: a signature that fits everywhere.
    fn signature(&self) -> Signature {
        Signature::default()
    }
}

/// Type that can be a parameter of a handler.
///
/// The marker `M` distinguishes kinds of parameters and is inferred. Custom extractors implement `FromEvent<ByType>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of a handler",
    label = "cannot be taken from an event",
    note = "an argument of the event implements `serde::Deserialize` without borrowed data; for a type of your own add `#[derive(serde::Deserialize)]`",
    note = "other parameters are `Socket`, `Io`, `State<T>`, `Extension<T>`, `Auth<T>`, `Ack`, `Args`, `EventName`, `CloseReason`, `EventError`, `EventRewrite`, or `Result<T, ArgsError>` of one"
)]
pub trait FromEvent<M>: Sized {
    /// Part of the event that this parameter consumes, or requires of the event.
    ///
    /// Checked at registration. Default: [`Takes::Nothing`].
    const TAKES: Takes = Takes::Nothing;

    /// Extracts the parameter from the event.
    ///
    /// # Errors
    /// Returns an error if the next argument does not match.
    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError>;
}

impl Parameter {
    pub(crate) fn of<T: FromEvent<M>, M>() -> Self {
        Self::new(T::TAKES, type_name::<T>())
    }
}

/// Marker for parameters that take an argument of the event.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "it is a marker")]
pub struct ByArgument;

/// Marker for extractors, which are recognised by their type.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "it is a marker")]
pub struct ByType;

/// Marker for parameters that receive an error instead of failing.
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

/// Extractor for the name of the event, for handlers of several events.
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
        match event.context {
            EventContext::Rewrite(rewrite) => Ok(rewrite.get_or_init(Self::default).clone()),
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
        Ok(match event.context {
            EventContext::Reason(reason) => reason,
            _ => Self::TransportClose,
        })
    }
}

impl FromEvent<ByType> for EventError {
    const TAKES: Takes = Takes::Error;

    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError> {
        match event.context {
            EventContext::Error(error) => Ok(error.clone()),
            _ => Err(ArgsError::Mismatch {
                position: 0,
                reason: "only a handler registered by `on_error` can take an `EventError`".into(),
            }),
        }
    }
}

/// Extractor for the client's auth payload; an empty object if the client sent none.
///
/// The payload of a Socket.IO client is its `auth` option. That of a plain WebSocket client is the query of its URL, as
/// an object of strings: `?token=x` becomes `{"token": "x"}`, and a repeated parameter becomes an array. A plain client
/// may also offer the subprotocols `["bearer", token]`, which sets `token`; see
/// [`Endpoint::plain`](crate::transport::Endpoint::plain).
///
/// If the payload does not match `T`, a middleware with this parameter does not run, and the client is rejected with
/// `invalid auth`. Use `Result<Auth<T>, ArgsError>` to handle the mismatch in the middleware, or [`Auth<Value>`](Auth)
/// to accept any payload.
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
        let args = match event.context {
            EventContext::Auth(auth) if !auth.is_empty() => ByteString::from(auth),
            _ => event.socket.auth_json(),
        };
        Args::from_validated(args, Vec::new()).get::<T>(0).map(Auth)
    }
}

/// Parameter, or the error if the event does not match it; the handler runs in both cases.
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
                Ok(first_poll::start(future.map(|outcome| outcome::settle(outcome, ack)), cx))
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

/// Marker for handlers that are not async.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "it is a marker")]
pub struct AtOnce;

/// Marker for handlers that are not async and borrow their socket.
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

/// Erases the type of a handler.
pub(crate) fn erase<M: 'static>(handler: impl Handler<M>) -> AnyHandler {
    Arc::new(move |event, cx| handler.start(event, cx))
}
