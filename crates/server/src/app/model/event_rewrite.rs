//! Changes that an event middleware makes to an event

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytestring::ByteString;
use roomcast_core::{Args, ArgsError, IntoArgs};

/// Changes the name and the arguments of the event that a middleware is asked about
///
/// A parameter of a middleware that was registered by `event_middleware`. Later middlewares and the handlers get what
/// it sets, once it has agreed; what is set after that changes nothing. Listeners of `on_any` have heard of the event
/// as the client sent it.
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
