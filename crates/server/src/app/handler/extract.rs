//! Extractors for data of the server: application state and request extensions.

use std::any::type_name;

use roomcast_core::ArgsError;

use crate::app::handler::call::{ByType, FromEvent};
use crate::app::model::event_input::HandlerInput;

/// Extractor for application state, set with [`IoBuilder::state`](crate::config::IoBuilder::state).
///
/// Each call receives a clone, so the value should be cheap to clone, such as an `Arc`. If no state of type `T` was
/// set, the event fails with a matching error.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// use roomcast_server::{Ack, Io, State};
///
/// #[derive(Clone, Default)]
/// struct Counter(Arc<AtomicUsize>);
///
/// let io = Io::builder().state(Counter::default()).build();
/// io.on("count", async |State(counter): State<Counter>, ack: Ack| {
///     ack.send(counter.0.fetch_add(1, Ordering::Relaxed)).map(drop)
/// });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::exhaustive_structs, reason = "parameters of handlers take it apart")]
pub struct State<T>(pub T);

impl<T: Clone + Send + Sync + 'static> FromEvent<ByType> for State<T> {
    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError> {
        let state = event.socket.io().state::<T>();
        state.map(Self).ok_or_else(|| ArgsError::Absent {
            what: type_name::<T>(),
            repair: "set it with IoBuilder::state",
        })
    }
}

/// Extractor for an extension of the handshake request, set by a layer in front of the server.
///
/// Any tower layer in front of [`Io::layer`](crate::Io::layer) that sets request extensions works, including axum's
/// `Extension`. Each call receives a clone. If the extension is missing, the event fails with a matching error;
/// use [`Handshake::extensions`](crate::http::Handshake::extensions) for an optional one.
///
/// ```
/// use roomcast_server::extract::Extension;
/// use roomcast_server::{Io, Socket};
///
/// #[derive(Clone)]
/// struct User(String); // inserted by the application's own middleware
///
/// let io = Io::new();
/// io.on_connect(async |socket: Socket, Extension(user): Extension<User>| {
///     socket.join(user.0);
/// });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::exhaustive_structs, reason = "parameters of handlers take it apart")]
pub struct Extension<T>(pub T);

impl<T: Clone + Send + Sync + 'static> FromEvent<ByType> for Extension<T> {
    fn from_event(event: &mut HandlerInput<'_>) -> Result<Self, ArgsError> {
        let found = event.socket.handshake().extensions().get::<T>().cloned();
        found.map(Self).ok_or_else(|| ArgsError::Absent {
            what: type_name::<T>(),
            repair: "add a layer that sets this extension in front of Io::layer",
        })
    }
}
