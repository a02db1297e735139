//! Input of a handler, and the handler registry made of it

use std::sync::{Arc, OnceLock};
use std::task::Context;

use bytestring::ByteString;
use roomcast_core::{Args, ArgsError, ArgsReader, CloseReason};

use crate::app::error::EventError;
use crate::app::model::ack::Ack;
use crate::app::model::event_rewrite::EventRewrite;
use crate::app::model::handler_future::Started;
use crate::app::model::listeners;
use crate::app::model::socket::Socket;

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

    /// Reads those that were not read yet, one by one.
    pub(crate) fn reader(&mut self) -> &mut ArgsReader<'a> {
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

/// A handler of which only the call is left
pub(crate) type AnyHandler =
    Arc<dyn Fn(&mut HandlerInput<'_>, &mut Context<'_>) -> Result<Started, ArgsError> + Send + Sync>;

// The registry knows nothing of handlers, so that it stays out of the circle of what they take.

/// A handler that was registered.
pub(crate) type Listener = listeners::Listener<AnyHandler>;

/// Handlers of one thing, in the order in which they are called.
pub(crate) type Listeners = listeners::Listeners<AnyHandler>;

/// Handlers of an event by its name.
pub(crate) type Found<'a> = listeners::Found<'a, AnyHandler>;

/// Handlers that were looked at last.
pub(crate) type Looked = listeners::Looked<AnyHandler>;

/// All handlers of a namespace or a socket.
pub(crate) type Board = listeners::Board<AnyHandler>;
