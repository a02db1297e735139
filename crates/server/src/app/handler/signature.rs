//! What is known of a handler when it is registered, and whether it fits there

use crate::app::handler::outcome::Outcome;
use crate::app::model::listeners::Topic;

/// What a parameter of a handler takes
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Takes {
    /// Nothing that others could miss, and nothing that some events do not have
    Nothing,
    /// The next argument of the event
    Argument,
    /// All arguments that are left
    Rest,
    /// The acknowledgement
    Ack,
    /// Why the client left
    CloseReason,
    /// What went wrong with an event
    Error,
}

/// The parameters of a handler, and whether it returns an answer
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

    /// Returns why such a handler does not fit what it is registered for, if it does not.
    pub(crate) fn problem(&self, topic: Option<Topic>) -> Option<String> {
        let mut is_rest_taken = false;
        for (at, &Parameter { takes, name }) in self.parameters.iter().enumerate() {
            let number = at + 1;
            let reason = match (takes, topic) {
                (Takes::Argument | Takes::Rest, Some(topic)) if !topic.has_arguments() => {
                    let hint = match topic {
                        Topic::Door | Topic::Connect => "; what the client shows is `Auth<T>`",
                        Topic::Disconnecting | Topic::Disconnect => "; why the client left is `CloseReason`",
                        _ => "; what went wrong is `EventError`",
                    };
                    format!("takes an argument, and there are none here{hint}")
                }
                (Takes::Argument | Takes::Rest, _) if is_rest_taken => {
                    "takes an argument, and `Args` before it takes all that are left; put `Args` last"
                        .to_owned()
                }
                (Takes::Ack, Some(topic)) if !topic.may_have_ack() => {
                    "is an acknowledgement, and no client waits for one here".to_owned()
                }
                (Takes::CloseReason, topic)
                    if !matches!(topic, Some(Topic::Disconnecting | Topic::Disconnect)) =>
                {
                    "is for handlers of `on_disconnecting` and `on_disconnect`".to_owned()
                }
                (Takes::Error, topic) if topic != Some(Topic::Error) => {
                    "is for handlers of `on_error`".to_owned()
                }
                _ => {
                    is_rest_taken |= takes == Takes::Rest;
                    continue;
                }
            };
            return Some(format!("parameter {number} of the handler, `{name}`, {reason}"));
        }
        let decides = matches!(topic, Some(Topic::Door | Topic::Middleware));
        (decides && self.is_answer).then(|| {
            "a middleware lets through whatever it does not refuse with an error, so it returns `()` or \
             `Result<(), E>`, and no value"
                .to_owned()
        })
    }
}

impl Topic {
    /// The method that registers a handler for it
    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Door => "middleware",
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

    /// Whether a handler may take an acknowledgement; one that also serves an event may do so when the client leaves
    fn may_have_ack(self) -> bool {
        !matches!(self, Self::Door | Self::Connect)
    }
}

/// Returns why no event of this name would come to a handler of it, if it is reserved.
pub(crate) fn reserved(event: &str) -> Option<&'static str> {
    Some(match event {
        "connect" | "connection" => "clients that join are heard of by `on_connect`",
        "disconnect" => "clients that leave are heard of by `on_disconnect`",
        "disconnecting" => "clients that are about to leave their rooms are heard of by `on_disconnecting`",
        "connect_error" => {
            "only clients hear of it; a `middleware` refuses them, and `on_error` hears of what goes wrong"
        }
        "newListener" | "removeListener" => {
            "there is no such event here; `listeners` tells what is registered"
        }
        _ => return None,
    })
}
