//! Parameters of handlers that do not come from the client: the application's state, and what layers found out

use std::any::type_name;

use roomcast_core::ArgsError;

use crate::app::handler::call::{ByType, FromEvent};
use crate::app::model::event_input::HandlerInput;

/// State of the application, as it was given to [`IoBuilder::state`](crate::config::IoBuilder::state)
///
/// Each handler gets a clone, so it should be cheap to clone, such as an `Arc`. A handler that asks for state which was
/// never given fails with an error that says so.
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
            repair: "give it to IoBuilder::state",
        })
    }
}

/// What a layer in front of the server put beside the request that the client's session began with
///
/// Any tower layer that stands before [`Io::layer`](crate::Io::layer) and sets extensions of requests will do, axum's
/// `Extension` among them. Each handler gets a clone. A handler that asks for what is not there fails with an error
/// that says so; [`Handshake::extensions`](crate::http::Handshake::extensions) tells whether it is.
///
/// ```
/// use roomcast_server::extract::Extension;
/// use roomcast_server::{Io, Socket};
///
/// #[derive(Clone)]
/// struct User(String); // put there by the application's own middleware
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
            repair: "put a layer that sets this extension in front of Io::layer",
        })
    }
}
