//! Handlers of events from other servers.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::FutureExt;
use roomcast_core::{Args, ArgsError, ByteString};

use crate::app::error::{HandlerError, failure};
use crate::util::log_limit::log_limited;

/// Handlers of events from other servers, by event name.
#[derive(Default)]
pub(crate) struct ServerSideHandlers(RwLock<HashMap<Box<str>, Vec<AnyHandler>>>);

/// Handler with its type erased.
pub(crate) type AnyHandler = Arc<dyn Fn(Args) -> Result<Answering, ArgsError> + Send + Sync>;
/// Future of such a handler, with its answer.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Option<Args>, HandlerError>> + Send>>;

impl ServerSideHandlers {
    /// Copies the handlers of another namespace.
    pub(crate) fn copy_from(&self, other: &Self) {
        let handlers = other.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = handlers;
    }

    #[track_caller]
    pub(crate) fn add(&self, event: &str, handler: AnyHandler) {
        assert!(
            !RESERVED.contains(&event),
            "`on_server_side({event:?}, ..)`: the name is reserved, and no server sends such an event"
        );
        let mut handlers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        handlers.entry(event.into()).or_default().push(handler);
    }

    fn of(&self, event: &str) -> Vec<AnyHandler> {
        let handlers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        handlers.get(event).cloned().unwrap_or_default()
    }

    /// Handles an event from another server, and returns the first answer of a handler.
    pub(crate) async fn handle(&self, name: &ByteString, args: Args) -> Option<Args> {
        let mut answer = None;
        for handler in self.of(name) {
            let args = args.clone();
            let run = async { handler(args).map_err(|error| failure(&error))?.await };
            match AssertUnwindSafe(run).catch_unwind().await {
                Ok(Ok(answered)) => answer = answer.or(answered),
                Ok(Err(error)) => {
                    log_limited!(
                        WARN,
                        name,
                        event = &**name,
                        error = error.message,
                        "server-side handler failed"
                    );
                }
                Err(_) => log_limited!(ERROR, name, event = &**name, "server-side handler panicked"),
            }
        }
        answer
    }
}

/// Event names that are reserved between servers.
pub(crate) const RESERVED: [&str; 3] = ["connect", "connection", "new_namespace"];

impl fmt::Debug for ServerSideHandlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerSideHandlers")
    }
}
