//! Input of handlers, and the handler registry for it.

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

/// Event passed to a handler.
#[derive(Debug)]
pub struct HandlerInput<'a> {
    pub(crate) socket: &'a Socket,
    pub(crate) name: &'a ByteString,
    pub(crate) args: Arguments<'a>,
    pub(crate) ack: Option<Ack>,
    pub(crate) context: EventContext<'a>,
}

/// Arguments of an event passed to a handler.
#[derive(Debug)]
pub(crate) enum Arguments<'a> {
    /// All arguments, unread and owned by this handler.
    Whole(&'a mut Args),
    Read(ArgsReader<'a>),
}

impl<'a> Arguments<'a> {
    /// Returns empty arguments, for input other than an event.
    pub(crate) fn none() -> Self {
        Self::shared(&NONE)
    }

    /// Returns the arguments of an event with further handlers.
    pub(crate) fn shared(args: &'a Args) -> Self {
        Self::Read(ArgsReader::new(args))
    }

    /// Returns the arguments of an event without further handlers.
    pub(crate) fn whole(args: &'a mut Args) -> Self {
        Self::Whole(args)
    }

    /// Takes the remaining arguments.
    pub(crate) fn take_rest(&mut self) -> Args {
        match self {
            Self::Whole(args) => std::mem::take(args),
            Self::Read(reader) => reader.take_rest(),
        }
    }

    /// Returns a reader of the remaining arguments.
    pub(crate) fn reader(&mut self) -> &mut ArgsReader<'a> {
        if let Self::Whole(_) = self
            && let Self::Whole(args) = std::mem::replace(self, Self::none())
        {
            *self = Self::shared(args);
        }
        match self {
            Self::Read(reader) => reader,
            Self::Whole(_) => unreachable!("replaced above"),
        }
    }
}

static NONE: Args = Args::empty();

/// Context of an event in addition to its arguments.
#[derive(Debug, Clone, Copy)]
pub(crate) enum EventContext<'a> {
    Nothing,
    /// Auth payload of a connecting client.
    Auth(&'a str),
    /// Reason for the disconnect.
    Reason(CloseReason),
    /// Failure of an event.
    Error(&'a EventError),
    /// Changes by an event middleware, created on first use.
    Rewrite(&'a OnceLock<EventRewrite>),
}

/// Handler with its type erased.
pub(crate) type AnyHandler =
    Arc<dyn Fn(&mut HandlerInput<'_>, &mut Context<'_>) -> Result<Started, ArgsError> + Send + Sync>;

// The registry is generic over handlers, which avoids a module cycle between the registry and the extractors.

/// Registered handler.
pub(crate) type Listener = listeners::Listener<AnyHandler>;

/// Handlers of one kind, in calling order.
pub(crate) type Listeners = listeners::Listeners<AnyHandler>;

/// Handlers of the last event, for the next events of its name.
pub(crate) type LookupCache = listeners::LookupCache<AnyHandler>;

/// Handler registry of a namespace or a socket.
pub(crate) type HandlerRegistry = listeners::HandlerRegistry<AnyHandler>;
