//! Handlers that are run one event of a socket after the other

use std::fmt;
use std::marker::PhantomData;

use roomcast_core::ArgsError;

use crate::app::handler::call::Handler;
use crate::app::handler::signature::Signature;
use crate::app::model::event_input::HandlerInput;
use crate::app::model::handler_future::HandlerFuture;
use crate::app::model::listeners::ListenerId;
use crate::app::model::turns::Turn;

/// Makes a handler wait, for each socket, until it is through with the event before
///
/// Other handlers go on meanwhile, and so does this one for other sockets. Events are taken in the order in which they
/// came. Those that wait count as handlers under way ([`Limits::max_handlers`](crate::config::Limits::max_handlers)). It must
/// not wait for an event of its own client that it handles itself; waiting for an answer is fine.
///
/// [`Socket::serial`](crate::Socket::serial) and [`NamespaceHandle::serial`](crate::namespace::NamespaceHandle::serial) do the same
/// for all handlers together.
///
/// Arguments are read when the event comes. So is what a closure does before it makes its future; an async function,
/// and an async closure, does all in its turn.
///
/// ```
/// use roomcast_server::handler::serial;
/// use roomcast_server::{Io, Socket};
///
/// # async fn store(_: String) {}
/// let io = Io::new();
/// io.on("save", serial(async |text: String| store(text).await)); // never two at a time, never out of order
/// io.on("draw", async |socket: Socket, x: i32, y: i32| {
///     let _ = socket.broadcast().emit("draw", (x, y)); // not held up by that
/// });
/// ```
pub fn serial<H>(handler: H) -> Serial<H> {
    Serial { handler, id: ListenerId::next() }
}

/// A handler that waits until it is through with the event before; made by [`serial`]
#[derive(Clone)]
pub struct Serial<H> {
    handler: H,
    id: ListenerId,
}

/// Marks handlers that are [`Serial`]
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

/// Queued at the first poll, which comes in the order of the events, even if the task has used up its share
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
    async fn turns_are_taken_in_order_by_a_task_that_has_used_up_its_share() {
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
            assert!((0..1000).any(|_| used_up()), "a task has a share");
            assert!(first.as_mut().poll(cx).is_pending() && second.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!(*log.lock().expect("nobody panics here"), ["start 1"]);
        tokio::join!(second, first);
        assert_eq!(*log.lock().expect("nobody panics here"), ["start 1", "end 1", "start 2", "end 2"]);
    }
}
