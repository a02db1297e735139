//! Serial handlers, which process the events of a socket one at a time.

use std::fmt;
use std::marker::PhantomData;

use roomcast_core::ArgsError;

use crate::app::handler::call::Handler;
use crate::app::handler::signature::Signature;
use crate::app::model::event_input::HandlerInput;
use crate::app::model::handler_future::HandlerFuture;
use crate::app::model::listeners::ListenerId;
use crate::app::model::turns::Turn;

/// Makes a handler process the events of each socket one at a time, in order of arrival.
///
/// The next event waits until the handler has completed the previous one. Other handlers, and this handler for other
/// sockets, continue meanwhile. Waiting events count as running handlers
/// ([`Limits::max_handlers`](crate::config::Limits::max_handlers)). The handler must not wait for an event from its own
/// client that it handles itself; waiting for an acknowledgement is fine.
///
/// [`Socket::serial`](crate::Socket::serial) and [`NamespaceHandle::serial`](crate::namespace::NamespaceHandle::serial)
/// serialise all handlers together.
///
/// Arguments are parsed when the event arrives. Code of a plain closure that runs before it returns its future also
/// runs then; the body of an async function or closure runs in turn.
///
/// ```
/// use roomcast_server::handler::serial;
/// use roomcast_server::{Io, Socket};
///
/// # async fn store(_: String) {}
/// let io = Io::new();
/// io.on("save", serial(async |text: String| store(text).await)); // one at a time and in order
/// io.on("draw", async |socket: Socket, x: i32, y: i32| {
///     let _ = socket.broadcast().emit("draw", (x, y)); // not delayed by "save"
/// });
/// ```
pub fn serial<H>(handler: H) -> Serial<H> {
    Serial { handler, id: ListenerId::next() }
}

/// Handler that processes the events of a socket one at a time; returned by [`serial`].
#[derive(Clone)]
pub struct Serial<H> {
    handler: H,
    id: ListenerId,
}

/// Marker for [`Serial`] handlers.
#[derive(Debug)]
pub struct InTurn<M>(PhantomData<M>);

#[diagnostic::do_not_recommend]
impl<H: Handler<M>, M> Handler<InTurn<M>> for Serial<H> {
    fn call(&self, event: &mut HandlerInput<'_>) -> Result<HandlerFuture, ArgsError> {
        let handled = self.handler.call(event)?;
        let turn = event.socket.turns().of(self.id);
        Ok(Box::pin(in_turn(turn, handled)))
    }

    fn signature(&self) -> Signature {
        self.handler.signature()
    }
}

/// Runs a handler once it holds the lock of its turn.
///
/// The first poll, which happens in event order, queues for the lock. `unconstrained` makes that hold even if the task
/// has exhausted its cooperative budget.
async fn in_turn<T>(turn: Turn, handled: impl Future<Output = T>) -> T {
    let _turn = tokio::task::unconstrained(turn.lock_owned()).await;
    handled.await
}

impl<H> fmt::Debug for Serial<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Serial").field(&self.id).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Mutex;
    use std::task::Poll;

    use super::*;
    use crate::app::model::turns::Turns;

    #[tokio::test]
    async fn keeps_order_without_coop_budget() {
        let turns = Turns::default();
        let id = ListenerId::next();
        let log = Mutex::new(Vec::new());
        let write = |entry| log.lock().expect("nobody panics here").push(entry);
        let handle = |number: u32| {
            let handled = async move {
                write(format!("start {number}"));
                tokio::task::yield_now().await;
                write(format!("end {number}"));
            };
            in_turn(turns.of(id), handled)
        };
        let (mut first, mut second) = (pin!(handle(1)), pin!(handle(2)));
        std::future::poll_fn(|cx| {
            let mut used_up = || pin!(tokio::task::consume_budget()).poll(cx).is_pending();
            assert!((0..1000).any(|_| used_up()), "a task has a cooperative budget");
            assert!(first.as_mut().poll(cx).is_pending() && second.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!(*log.lock().expect("nobody panics here"), ["start 1"]);
        tokio::join!(second, first);
        assert_eq!(*log.lock().expect("nobody panics here"), ["start 1", "end 1", "start 2", "end 2"]);
    }
}
