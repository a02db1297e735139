//! Handlers: plain functions, async or not, whose parameters say what they want of an event

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use bytestring::ByteString;
use futures_util::FutureExt as _;
use roomcast_core::{Args, ArgsError, ArgsReader, CloseReason, IntoArgs};
use serde::de::DeserializeOwned;

use crate::ack::Ack;
use crate::error::{ConnectError, DISCONNECTED, EventError};
use crate::io::Io;
use crate::slot;
use crate::socket::Socket;

/// A function that handles events, async or not
///
/// Its parameters say what it wants. Those that are known here take their part of the event ([`Socket`], [`Io`],
/// [`Ack`], [`Args`], [`EventName`], [`Auth`], [`CloseReason`], [`EventError`], [`EventRewrite`]); each of the others takes
/// the next argument that the client sent and may be anything that serde deserialises. An argument that is missing reads as `null`, so
/// `Option` makes it optional. [`Args`] takes all the arguments that are left, unparsed.
///
/// It returns nothing, or a `Result` whose error is logged with the name of the event. A handler that fails,
/// panics, or is given arguments that do not fit costs that event and nothing else.
///
/// Handlers of one client start in the order in which its events came, each running to its first wait before
/// the next starts. One that never waits need not be async, and is cheaper by that; it may borrow its socket, as its
/// first parameter. While it computes, or blocks, all
/// clients of its thread stand still; give long work to `tokio::task::spawn_blocking`.
///
/// ```
/// use roomcast_server::{Io, Socket};
///
/// async fn say(socket: Socket, room: String, text: String) {
///     let _ = socket.to(&room).emit("said", (socket.id().as_str(), &text));
/// }
///
/// let io = Io::new();
/// io.on("say", say);
/// io.on("move", |socket: &Socket, x: f32, y: f32| {
///     let _ = socket.broadcast().emit("moved", (socket.id().as_str(), x, y));
/// });
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    note = "a handler is a function or a closure of up to eight parameters, async or not",
    note = "each parameter is `Socket`, `Io`, `Ack`, `Args`, `EventName`, `Auth<T>`, `CloseReason`, `EventError`, `EventRewrite`, or implements `DeserializeOwned`",
    note = "it returns nothing or a `Result<(), E>` where `E: Display`; if it is async its future is `Send + 'static`"
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
}

/// How far a handler came when it was called
pub enum Started {
    /// To its end
    Ended(Result<(), HandlerError>),
    /// To its first wait; this is what is left of it
    Waits(HandlerFuture),
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(outcome) => f.debug_tuple("Ended").field(outcome).finish(),
            Self::Waits(_) => f.write_str("Waits"),
        }
    }
}

/// What a handler returns, as the server runs it
pub type HandlerFuture = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;

/// A handler failed; the text of its error
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HandlerError {
    /// What it said
    pub message: String,
    /// Whatever else there is to tell a client that may not connect, as JSON text
    pub data: Option<ByteString>,
}

impl HandlerError {
    /// Returns whether the handler could not reach a client that is gone
    ///
    /// Told by the text, since a handler may have wrapped the error.
    pub(crate) fn is_disconnected(&self) -> bool {
        self.message == DISCONNECTED
    }
}

/// An event on its way into a handler
#[derive(Debug)]
pub struct HandlerInput<'a> {
    pub(crate) socket: &'a Socket,
    pub(crate) name: &'a ByteString,
    pub(crate) args: Arguments<'a>,
    pub(crate) ack: Option<Ack>,
    pub(crate) beside: Beside<'a>,
}

/// The arguments of an event on their way into a handler
#[derive(Debug)]
pub(crate) enum Arguments<'a> {
    /// All of them, none of which was read, for the handler that may keep them
    Whole(&'a mut Args),
    Read(ArgsReader<'a>),
}

impl<'a> Arguments<'a> {
    /// Those of what is no event of a client
    pub(crate) fn none() -> Self {
        Self::shared(&NONE)
    }

    /// Those of an event that has other handlers too
    pub(crate) fn shared(args: &'a Args) -> Self {
        Self::Read(ArgsReader::new(args))
    }

    /// Those of an event that nobody needs any more
    pub(crate) fn whole(args: &'a mut Args) -> Self {
        Self::Whole(args)
    }

    /// Takes those that were not read yet
    pub(crate) fn take_rest(&mut self) -> Args {
        match self {
            Self::Whole(args) => std::mem::take(args),
            Self::Read(reader) => reader.take_rest(),
        }
    }

    fn reader(&mut self) -> &mut ArgsReader<'a> {
        if let Self::Whole(_) = self
            && let Self::Whole(args) = std::mem::replace(self, Self::none())
        {
            *self = Self::shared(args);
        }
        match self {
            Self::Read(reader) => reader,
            Self::Whole(_) => unreachable!("it was replaced"),
        }
    }
}

static NONE: Args = Args::empty();

/// What an event has besides its arguments
#[derive(Debug, Clone, Copy)]
pub(crate) enum Beside<'a> {
    Nothing,
    /// What the client showed at the door
    Auth(&'a str),
    /// Why the client left
    Reason(CloseReason),
    /// What went wrong
    Error(&'a EventError),
    /// What a middleware makes of the event, if it asks for that
    Rewrite(&'a OnceLock<EventRewrite>),
}

/// A parameter of a handler
///
/// `M` only tells the two kinds of parameters apart and is inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of a handler",
    note = "arguments of an event need `serde::Deserialize` without borrowed data, such as `String` or `Bytes`"
)]
pub trait FromEvent<M>: Sized {
    /// Takes its part of the event
    ///
    /// # Errors
    /// When the next argument does not fit.
    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError>;
}

/// Marks parameters that are arguments of the event
#[derive(Debug)]
pub struct ByArgument;

/// Marks parameters that are known by their type
#[derive(Debug)]
pub struct ByType;

impl<T: DeserializeOwned> FromEvent<ByArgument> for T {
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
    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError> {
        Ok(event.ack.take().unwrap_or_else(Self::unwanted))
    }
}

impl FromEvent<ByType> for Args {
    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError> {
        Ok(event.args.take_rest())
    }
}

/// The name of the event; for handlers that serve several
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventName(pub ByteString);

impl FromEvent<ByType> for EventName {
    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError> {
        Ok(Self(event.name.clone()))
    }
}

/// Changes the name and the arguments of the event that a middleware is asked about
///
/// A parameter of a middleware that was registered by `event_middleware`. Later middlewares and the handlers get what
/// it sets, once it has agreed; what is set after that changes nothing. Listeners of `on_any` have heard of the event
/// as the client sent it.
///
/// ```
/// use roomcast_server::{Args, EventName, EventRewrite, Io};
///
/// let io = Io::new();
/// io.event_middleware(async |EventName(name): EventName, args: Args, event: EventRewrite| {
///     if &*name == "chat message" {
///         event.set_name("say").set_args((&"lobby", &args.get::<String>(0)?))?;
///     }
///     Ok::<_, roomcast_server::ArgsError>(())
/// });
/// ```
#[derive(Debug, Clone, Default)]
pub struct EventRewrite(Arc<Mutex<Rewritten>>);

#[derive(Debug, Default)]
struct Rewritten {
    name: Option<ByteString>,
    args: Option<Args>,
}

impl EventRewrite {
    /// Sets the name: the handlers of that event get it
    pub fn set_name(&self, name: impl Into<ByteString>) -> &Self {
        self.rewritten().name = Some(name.into());
        self
    }

    /// Sets all arguments
    ///
    /// # Errors
    /// [`ArgsError::Unserializable`] if a value cannot be JSON. The arguments are as before then.
    pub fn set_args(&self, args: impl IntoArgs) -> Result<&Self, ArgsError> {
        let args = args.into_args()?;
        self.rewritten().args = Some(args);
        Ok(self)
    }

    /// Moves what was set into an event
    pub(crate) fn apply(&self, name: &mut ByteString, args: &mut Args) {
        let rewritten = std::mem::take(&mut *self.rewritten());
        if let Some(new) = rewritten.name {
            *name = new;
        }
        if let Some(new) = rewritten.args {
            *args = new;
        }
    }

    fn rewritten(&self) -> MutexGuard<'_, Rewritten> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError> {
        Ok(match event.beside {
            Beside::Reason(reason) => reason,
            _ => Self::TransportClose,
        })
    }
}

impl FromEvent<ByType> for EventError {
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth<T>(pub T);

impl<T: DeserializeOwned> FromEvent<ByType> for Auth<T> {
    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError> {
        let json = match event.beside {
            Beside::Auth(auth) if !auth.is_empty() => auth,
            _ => "{}",
        };
        let args = Args::from_validated(ByteString::from(json), Vec::new());
        args.get::<T>(0).map(Auth)
    }
}

/// What a client showed, or why it does not fit: a middleware that takes this answers for itself
///
/// With [`Auth`] alone a client whose `auth` does not fit is refused as `invalid auth` before the middleware is
/// called. [`Auth<Value>`](Auth) fits whatever the client shows.
///
/// ```
/// use roomcast_server::{ArgsError, Auth, ConnectError, Io};
///
/// #[derive(serde::Deserialize)]
/// struct Ticket {
///     seat: u32,
/// }
///
/// let io = Io::new();
/// io.middleware(async |ticket: Result<Auth<Ticket>, ArgsError>| match ticket {
///     Ok(Auth(ticket)) if ticket.seat < 100 => Ok(()),
///     Ok(_) => Err(ConnectError::new("no such seat")),
///     Err(_) => Err(ConnectError::new("show a ticket")),
/// });
/// ```
impl<T: DeserializeOwned> FromEvent<ByType> for Result<Auth<T>, ArgsError> {
    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError> {
        Ok(Auth::from_event(event))
    }
}

/// What a handler may return
pub trait Outcome {
    /// As the server sees it
    ///
    /// # Errors
    /// When the handler failed.
    fn into_result(self) -> Result<(), HandlerError>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), HandlerError> {
        Ok(())
    }
}

impl<E: fmt::Display + 'static> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), HandlerError> {
        self.map_err(|error| {
            let any: &dyn Any = &error;
            if let Some(refusal) = any.downcast_ref::<ConnectError>() {
                return refusal.clone().into();
            }
            HandlerError { message: error.to_string(), data: None }
        })
    }
}

macro_rules! handler {
    ($($param:ident $marker:ident),*) => {
        impl<F, Fut, $($param, $marker),*> Handler<(($($marker,)*), ($($param,)*))> for F
        where
            F: Fn($($param),*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            Fut::Output: Outcome,
            $($param: FromEvent<$marker>),*
        {
            #[allow(non_snake_case, reason = "parameters bear the names of their types")]
            #[allow(unused_variables, reason = "a handler without parameters takes nothing of the event")]
            fn call(&self, event: &mut HandlerInput<'_>) -> Result<HandlerFuture, ArgsError> {
                $(let $param = $param::from_event(event)?;)*
                let future = self($($param),*);
                Ok(Box::pin(future.map(Outcome::into_result)))
            }

            #[allow(non_snake_case, reason = "parameters bear the names of their types")]
            #[allow(unused_variables, reason = "a handler without parameters takes nothing of the event")]
            fn start(
                &self,
                event: &mut HandlerInput<'_>,
                cx: &mut Context<'_>,
            ) -> Result<Started, ArgsError> {
                $(let $param = $param::from_event(event)?;)*
                let future = self($($param),*);
                Ok(slot::start(future.map(Outcome::into_result), cx))
            }
        }

        impl<F, R, $($param, $marker),*> Handler<(AtOnce, ($($marker,)*), ($($param,)*))> for F
        where
            F: Fn($($param),*) -> R + Send + Sync + 'static,
            R: Outcome,
            $($param: FromEvent<$marker>),*
        {
            #[allow(non_snake_case, reason = "parameters bear the names of their types")]
            #[allow(unused_variables, reason = "a handler without parameters takes nothing of the event")]
            fn call(&self, event: &mut HandlerInput<'_>) -> Result<HandlerFuture, ArgsError> {
                $(let $param = $param::from_event(event)?;)*
                let outcome = self($($param),*).into_result();
                Ok(Box::pin(std::future::ready(outcome)))
            }

            #[allow(non_snake_case, reason = "parameters bear the names of their types")]
            #[allow(unused_variables, reason = "a handler without parameters takes nothing of the event")]
            fn start(
                &self,
                event: &mut HandlerInput<'_>,
                _: &mut Context<'_>,
            ) -> Result<Started, ArgsError> {
                $(let $param = $param::from_event(event)?;)*
                Ok(Started::Ended(self($($param),*).into_result()))
            }
        }

        impl<F, R, $($param, $marker),*> Handler<(Borrowing, ($($marker,)*), ($($param,)*))> for F
        where
            F: Fn(&Socket, $($param),*) -> R + Send + Sync + 'static,
            R: Outcome,
            $($param: FromEvent<$marker>),*
        {
            #[allow(non_snake_case, reason = "parameters bear the names of their types")]
            fn call(&self, event: &mut HandlerInput<'_>) -> Result<HandlerFuture, ArgsError> {
                $(let $param = $param::from_event(event)?;)*
                let outcome = self(event.socket, $($param),*).into_result();
                Ok(Box::pin(std::future::ready(outcome)))
            }

            #[allow(non_snake_case, reason = "parameters bear the names of their types")]
            fn start(
                &self,
                event: &mut HandlerInput<'_>,
                _: &mut Context<'_>,
            ) -> Result<Started, ArgsError> {
                $(let $param = $param::from_event(event)?;)*
                Ok(Started::Ended(self(event.socket, $($param),*).into_result()))
            }
        }
    };
}

/// Marks handlers that are not async
#[derive(Debug)]
pub struct AtOnce;

/// Marks handlers that are not async and borrow their socket
#[derive(Debug)]
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

/// A handler of which only the call is left
pub(crate) type AnyHandler =
    Arc<dyn Fn(&mut HandlerInput<'_>, &mut Context<'_>) -> Result<Started, ArgsError> + Send + Sync>;

pub(crate) fn erase<M: 'static>(handler: impl Handler<M>) -> AnyHandler {
    Arc::new(move |event, cx| handler.start(event, cx))
}
