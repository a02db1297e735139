//! First poll of a handler's future, in memory that the thread reuses.

use std::any::Any;
use std::cell::Cell;
use std::future::{Future, Pending, pending};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::Either;

use crate::app::error::HandlerError;
use crate::app::model::handler_future::Started;

type Outcome = Result<(), HandlerError>;

/// Polls the future of a handler for the first time.
///
/// Most handlers complete at the first poll. The thread then keeps their memory for the next handler, usually the same
/// one. Only a pending future takes the allocation with it, since it is pinned.
pub(crate) fn start<F>(future: F, cx: &mut Context<'_>) -> Started
where
    F: Future<Output = Outcome> + Send + 'static,
{
    // Taken out of the thread-local: a nested handler finds it empty, and a panic leaves it empty.
    let mut offered = Some(future);
    let spare = SPARE.take().and_then(|mut spare| spare.as_mut().fill(&mut offered).then_some(spare));
    let mut slot: Pin<Box<dyn Slot>> = match (spare, offered) {
        (None, Some(future)) => Box::pin(Either::Left::<F, Pending<Outcome>>(future)),
        (Some(filled), _) => filled,
        (None, None) => Box::pin(Either::Right::<F, _>(pending())),
    };
    match slot.as_mut().poll(cx) {
        Poll::Pending => Started::Waits(slot),
        Poll::Ready(outcome) => {
            slot.as_mut().clear();
            SPARE.set(Some(slot));
            Started::Ended(outcome)
        }
    }
}

thread_local! {
    // Saves one allocation per event whose handler completes at its first poll, 2 % of an echo; holds the memory of one future.
    // A parameter instead would have to pass through every kind of handler between the driver and this function.
    static SPARE: Cell<Option<Pin<Box<dyn Slot>>>> = const { Cell::new(None) };
}

/// Memory that holds futures of one type, one after the other.
trait Slot: Future<Output = Outcome> + Send {
    /// Moves the offered future into the slot; `false` unless it is an `Option` of a future of this type.
    fn fill(self: Pin<&mut Self>, offered: &mut dyn Any) -> bool;

    /// Drops the future in the slot.
    fn clear(self: Pin<&mut Self>);
}

impl<F: Future<Output = Outcome> + Send + 'static> Slot for Either<F, Pending<Outcome>> {
    fn fill(mut self: Pin<&mut Self>, offered: &mut dyn Any) -> bool {
        let Some(future) = offered.downcast_mut().and_then(Option::<F>::take) else { return false };
        self.set(Self::Left(future));
        true
    }

    fn clear(mut self: Pin<&mut Self>) {
        self.set(Self::Right(pending()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use super::*;

    async fn fails(message: Arc<str>) -> Outcome {
        Err(HandlerError { message: message.to_string(), data: None })
    }

    fn started(future: impl Future<Output = Outcome> + Send + 'static) -> Started {
        start(future, &mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn reuses_memory_of_completed_handlers() {
        let text: Arc<str> = "no".into();
        let counted = allocation_counter::measure(|| {
            for _ in 0..10 {
                drop(started(std::future::ready(Ok(()))));
            }
        });
        assert_eq!(counted.count_total, 1);
        for _ in 0..3 {
            let Started::Ended(Err(error)) = started(fails(text.clone())) else { panic!("it ends at once") };
            assert_eq!(error.message, "no");
            assert_eq!(Arc::strong_count(&text), 1);
            assert!(matches!(started(std::future::ready(Ok(()))), Started::Ended(Ok(()))));
        }
    }

    #[test]
    fn gives_memory_to_pending_handler() {
        let later = |turns: usize| async move {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            Ok(())
        };
        assert!(matches!(started(later(0)), Started::Ended(Ok(()))));
        let mut waiting: Vec<_> = (0..3)
            .map(|_| match started(later(1)) {
                Started::Waits(future) => future,
                Started::Ended(_) => panic!("it waits"),
            })
            .collect();
        assert!(matches!(started(later(0)), Started::Ended(Ok(()))));
        for future in &mut waiting {
            let mut cx = Context::from_waker(Waker::noop());
            assert_eq!(future.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
        }
    }

    #[test]
    fn recovers_from_panicking_handler() {
        let panics = async { panic!("on purpose") };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| started(panics))).is_err());
        assert!(matches!(started(std::future::ready(Ok(()))), Started::Ended(Ok(()))));
    }
}
