//! Changes to an event by an event middleware.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytestring::ByteString;
use roomcast_core::{Args, ArgsError, IntoArgs};

/// Extractor to change the name and arguments of an event in an event middleware.
///
/// Later middlewares and the handlers receive the changed event once the middleware has completed successfully; later
/// changes have no effect. `on_any` listeners receive the event as sent by the client.
///
/// ```
/// use roomcast_server::extract::EventName;
/// use roomcast_server::handler::EventRewrite;
/// use roomcast_server::{Args, Io};
///
/// let io = Io::new();
/// io.event_middleware(async |EventName(name): EventName, args: Args, event: EventRewrite| {
///     if &*name == "chat message" {
///         event.set_name("say").set_args((&"lobby", &args.get::<String>(0)?))?;
///     }
///     Ok::<_, roomcast_server::extract::ArgsError>(())
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
    /// Sets the name of the event, which selects its handlers.
    pub fn set_name(&self, name: impl Into<ByteString>) -> &Self {
        self.rewritten().name = Some(name.into());
        self
    }

    /// Replaces all arguments.
    ///
    /// # Errors
    /// Returns [`ArgsError::Unserializable`] if a value cannot be written as JSON; the arguments then stay unchanged.
    pub fn set_args(&self, args: impl IntoArgs) -> Result<&Self, ArgsError> {
        let args = args.into_args()?;
        self.rewritten().args = Some(args);
        Ok(self)
    }

    /// Moves the changes into an event.
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
