//! Signatures of handlers, checked at registration.

use crate::app::handler::outcome::Outcome;
use crate::app::model::listeners::ListenerKind;

/// Part of an event that a parameter consumes or requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Takes {
    /// Consumes nothing, and is available in every event.
    Nothing,
    /// Consumes the next argument of the event.
    Argument,
    /// Consumes all remaining arguments.
    Rest,
    /// Consumes the acknowledgement.
    Ack,
    /// Requires a close reason.
    CloseReason,
    /// Requires the failure of an event.
    Error,
}

/// Parameters of a handler, and whether it returns an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signature {
    parameters: Vec<Parameter>,
    is_answer: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parameter {
    takes: Takes,
    name: &'static str,
}

impl Parameter {
    pub(crate) fn new(takes: Takes, name: &'static str) -> Self {
        Self { takes, name }
    }

    pub(crate) fn borrowed_socket() -> Self {
        Self { takes: Takes::Nothing, name: "&Socket" }
    }
}

impl Signature {
    pub(crate) fn new<R: Outcome>(parameters: &[Parameter]) -> Self {
        Self { parameters: parameters.to_vec(), is_answer: R::is_answer() }
    }

    /// Returns why a handler with this signature does not fit its registration, or `None` if it does.
    pub(crate) fn problem(&self, topic: Option<ListenerKind>) -> Option<String> {
        let mut is_rest_taken = false;
        for (at, &Parameter { takes, name }) in self.parameters.iter().enumerate() {
            let number = at + 1;
            let reason = match (takes, topic) {
                (Takes::Argument | Takes::Rest, Some(topic)) if !topic.has_arguments() => {
                    let hint = match topic {
                        ListenerKind::ConnectMiddleware | ListenerKind::Connect => {
                            "; the client's auth payload is `Auth<T>`"
                        }
                        ListenerKind::Disconnecting | ListenerKind::Disconnect => {
                            "; the close reason is `CloseReason`"
                        }
                        _ => "; the failure is `EventError`",
                    };
                    format!("takes an argument, but there are none here{hint}")
                }
                (Takes::Argument | Takes::Rest, _) if is_rest_taken => {
                    "takes an argument, but `Args` before it takes all remaining ones; put `Args` last"
                        .to_owned()
                }
                (Takes::Ack, Some(topic)) if !topic.may_have_ack() => {
                    "is an acknowledgement, but no client waits for one here".to_owned()
                }
                (Takes::CloseReason, topic)
                    if !matches!(topic, Some(ListenerKind::Disconnecting | ListenerKind::Disconnect)) =>
                {
                    "is for handlers of `on_disconnecting` and `on_disconnect`".to_owned()
                }
                (Takes::Error, topic) if topic != Some(ListenerKind::Error) => {
                    "is for handlers of `on_error`".to_owned()
                }
                _ => {
                    is_rest_taken |= takes == Takes::Rest;
                    continue;
                }
            };
            return Some(format!("parameter {number} of the handler, `{name}`, {reason}"));
        }
        let decides = matches!(topic, Some(ListenerKind::ConnectMiddleware | ListenerKind::Middleware));
        (decides && self.is_answer).then(|| {
            "a middleware rejects only with an error, so it must return `()` or `Result<(), E>` instead of a \
             value"
                .to_owned()
        })
    }
}

impl ListenerKind {
    /// Returns the name of the method that registers a handler of this kind.
    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::ConnectMiddleware => "middleware",
            Self::Connect => "on_connect",
            Self::Disconnecting => "on_disconnecting",
            Self::Disconnect => "on_disconnect",
            Self::Any => "on_any",
            Self::Middleware => "event_middleware",
            Self::Other => "on_other",
            Self::Error => "on_error",
        }
    }

    fn has_arguments(self) -> bool {
        matches!(self, Self::Any | Self::Middleware | Self::Other)
    }

    /// Returns whether a handler may take an acknowledgement.
    ///
    /// Disconnect handlers may, because the same function may also serve an event.
    fn may_have_ack(self) -> bool {
        !matches!(self, Self::ConnectMiddleware | Self::Connect)
    }
}

/// Returns the alternative to a handler for a reserved event name, or `None` if the name is not reserved.
pub(crate) fn reserved(event: &str) -> Option<&'static str> {
    Some(match event {
        "connect" | "connection" => "use `on_connect`",
        "disconnect" => "use `on_disconnect`",
        "disconnecting" => "use `on_disconnecting`",
        "connect_error" => {
            "only clients receive it; reject clients in a `middleware`, and handle failures in `on_error`"
        }
        "newListener" | "removeListener" => {
            "the server has no such event; `listeners` returns the registered handlers"
        }
        _ => return None,
    })
}
