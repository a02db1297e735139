//! Events between the servers of a cluster.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use roomcast_core::{Args, ByteString, FromArgs, IntoArgs, QueryError};

use crate::app::error::EmitError;
use crate::app::handler::outcome::Outcome;
use crate::app::model::io::Io;
use crate::app::model::server_side_handlers::{Answering, RESERVED};
use crate::app::namespace::NamespaceHandle;

/// Error of an event sent to other servers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerSideError {
    /// The event could not be emitted.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// Some nodes did not answer within the timeout; the error holds the answers of the others.
    #[error(transparent)]
    Unanswered(#[from] QueryError<Args>),
}

/// Time to wait for the answers of other servers; Node's adapters wait as long.
const TIMEOUT: Duration = Duration::from_secs(5);

fn checked(event: &str) -> Result<ByteString, EmitError> {
    if RESERVED.contains(&event) { Err(EmitError::ReservedName(event.into())) } else { Ok(event.into()) }
}

impl NamespaceHandle {
    #[doc = include_str!("../../docs/on_server_side.md")]
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

    #[doc = include_str!("../../docs/server_side_emit.md")]
    pub fn server_side_emit(&self, event: &str, args: impl IntoArgs) -> Result<(), EmitError> {
        self.state.server_side_emit(&checked(event)?, &args.into_args()?);
        Ok(())
    }

    #[doc = include_str!("../../docs/server_side_emit_with_ack.md")]
    pub async fn server_side_emit_with_ack(
        &self,
        event: &str,
        args: impl IntoArgs,
    ) -> Result<Vec<Args>, ServerSideError> {
        let (event, args) = (checked(event)?, args.into_args().map_err(EmitError::from)?);
        let Some(others) = self.state.other_servers() else { return Ok(Vec::new()) };
        Ok(others.server_side_emit_with_ack(&event, &args, TIMEOUT).await?)
    }
}

impl Io {
    #[doc = include_str!("../../docs/on_server_side.md")]
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

    #[doc = include_str!("../../docs/server_side_emit.md")]
    pub fn server_side_emit(&self, event: &str, args: impl IntoArgs) -> Result<(), EmitError> {
        self.main().server_side_emit(event, args)
    }

    #[doc = include_str!("../../docs/server_side_emit_with_ack.md")]
    pub async fn server_side_emit_with_ack(
        &self,
        event: &str,
        args: impl IntoArgs,
    ) -> Result<Vec<Args>, ServerSideError> {
        self.main().server_side_emit_with_ack(event, args).await
    }
}
