//! Events from server to server, over the router of a namespace

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use futures_util::FutureExt;
use roomcast_core::{Args, ArgsError, ByteString, FromArgs, IntoArgs, RouterError, ServerSide};

use crate::app::error::{EmitError, HandlerError, failure};
use crate::app::handler::outcome::Outcome;
use crate::app::model::io::Io;
use crate::app::model::namespace::NamespaceHandle;
use crate::util::log_limit::log_limited;

/// Asking the servers of other nodes failed
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerSideError {
    /// The event could not be emitted
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// Some nodes did not answer in time; what the others answered is in it
    #[error(transparent)]
    Unanswered(#[from] RouterError<Args>),
}

/// The functions that listen to other servers, by event
#[derive(Default)]
pub(crate) struct ServerSideHandlers(RwLock<HashMap<Box<str>, Vec<AnyHandler>>>);

type AnyHandler = Arc<dyn Fn(Args) -> Result<Answering, ArgsError> + Send + Sync>;
type Answering = Pin<Box<dyn Future<Output = Result<Option<Args>, HandlerError>> + Send>>;

impl ServerSideHandlers {
    /// Begins as another namespace is now
    pub(crate) fn copy_from(&self, other: &Self) {
        let handlers = other.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = handlers;
    }

    #[track_caller]
    fn add(&self, event: &str, handler: AnyHandler) {
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
}

#[async_trait]
impl ServerSide for ServerSideHandlers {
    async fn server_side(&self, name: &ByteString, args: Args) -> Option<Args> {
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

/// Event names that mean something else between servers
const RESERVED: [&str; 3] = ["connect", "connection", "new_namespace"];

fn checked(event: &str) -> Result<ByteString, EmitError> {
    if RESERVED.contains(&event) { Err(EmitError::ReservedName(event.into())) } else { Ok(event.into()) }
}

impl NamespaceHandle {
    #[doc = include_str!("../../../docs/on_server_side.md")]
    #[track_caller]
    pub fn on_server_side<T, F, Fut>(&self, event: &str, handler: F) -> &Self
    where
        T: for<'a> FromArgs<'a>,
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Outcome> + Send + 'static,
    {
        let erased = move |args: Args| {
            let future = handler(args.parse::<T>()?);
            let answering: Answering = Box::pin(async move { future.await.into_answer(true) });
            Ok(answering)
        };
        self.state.servers.add(event, Arc::new(erased));
        self
    }

    #[doc = include_str!("../../../docs/server_side_emit.md")]
    pub fn server_side_emit(&self, event: &str, args: impl IntoArgs) -> Result<(), EmitError> {
        self.state.router.server_side_emit(&checked(event)?, &args.into_args()?);
        Ok(())
    }

    #[doc = include_str!("../../../docs/server_side_emit_with_ack.md")]
    pub async fn server_side_emit_with_ack(
        &self,
        event: &str,
        args: impl IntoArgs,
    ) -> Result<Vec<Args>, ServerSideError> {
        let (event, args) = (checked(event)?, args.into_args().map_err(EmitError::from)?);
        Ok(self.state.router.server_side_ask(&event, &args).await?)
    }
}

impl Io {
    #[doc = include_str!("../../../docs/on_server_side.md")]
    #[track_caller]
    pub fn on_server_side<T, F, Fut>(&self, event: &str, handler: F) -> &Self
    where
        T: for<'a> FromArgs<'a>,
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Outcome> + Send + 'static,
    {
        self.main().on_server_side(event, handler);
        self
    }

    #[doc = include_str!("../../../docs/server_side_emit.md")]
    pub fn server_side_emit(&self, event: &str, args: impl IntoArgs) -> Result<(), EmitError> {
        self.main().server_side_emit(event, args)
    }

    #[doc = include_str!("../../../docs/server_side_emit_with_ack.md")]
    pub async fn server_side_emit_with_ack(
        &self,
        event: &str,
        args: impl IntoArgs,
    ) -> Result<Vec<Args>, ServerSideError> {
        self.main().server_side_emit_with_ack(event, args).await
    }
}

impl fmt::Debug for ServerSideHandlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerSideHandlers")
    }
}
