//! Handlers that are cloned for each event, such as async closures with captures.

use std::fmt;
use std::future::Future;

use futures_util::FutureExt as _;
use roomcast_core::ArgsError;

use crate::app::handler::call::{FromEvent, Handler};
use crate::app::handler::outcome::{self, Outcome};
use crate::app::handler::signature::{Parameter, Signature};
use crate::app::model::event_input::HandlerInput;
use crate::app::model::handler_future::HandlerFuture;

/// Turns an async closure with captures into a handler by cloning it for each event.
///
/// The future of an `async move |..|` closure borrows its captures from the closure, so the closure itself is not a
/// handler. Every capture is cloned per event and should be cheap to clone, such as an `Arc`.
///
/// ```
/// use std::sync::Arc;
///
/// use roomcast_server::handler::cloned;
/// use roomcast_server::{Io, Socket};
///
/// let io = Io::new();
/// let greeting: Arc<str> = "hello".into();
/// io.on("greet", cloned(async move |socket: Socket, name: String| {
///     socket.emit("greeting", format!("{greeting}, {name}"))
/// }));
/// ```
pub fn cloned<F>(handler: F) -> Cloned<F> {
    Cloned(handler)
}

/// Handler that is cloned for each event; returned by [`cloned`].
#[derive(Clone)]
pub struct Cloned<F>(F);

impl<F> fmt::Debug for Cloned<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cloned")
    }
}

macro_rules! cloned_handler {
    ($($param:ident $marker:ident),*) => {
        #[diagnostic::do_not_recommend]
        impl<F, Fut, $($param, $marker),*> Handler<(($($marker,)*), ($($param,)*))> for Cloned<F>
        where
            F: FnOnce($($param),*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            Fut::Output: Outcome,
            $($param: FromEvent<$marker>),*
        {
            #[allow(non_snake_case, reason = "parameters bear the names of their types")]
            fn call(&self, event: &mut HandlerInput<'_>) -> Result<HandlerFuture, ArgsError> {
                $(let $param = $param::from_event(event)?;)*
                let ack = outcome::answered_by::<Fut::Output>(event);
                let future = (self.0.clone())($($param),*);
                Ok(Box::pin(future.map(|outcome| outcome::settle(outcome, ack))))
            }

            fn signature(&self) -> Signature {
                Signature::new::<Fut::Output>(&[$(Parameter::of::<$param, $marker>()),*])
            }
        }
    };
}

cloned_handler!();
cloned_handler!(A MA);
cloned_handler!(A MA, B MB);
cloned_handler!(A MA, B MB, C MC);
cloned_handler!(A MA, B MB, C MC, D MD);
cloned_handler!(A MA, B MB, C MC, D MD, E ME);
cloned_handler!(A MA, B MB, C MC, D MD, E ME, G MG);
cloned_handler!(A MA, B MB, C MC, D MD, E ME, G MG, H MH);
cloned_handler!(A MA, B MB, C MC, D MD, E ME, G MG, H MH, I MI);
