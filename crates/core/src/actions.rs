//! Queue of a session's actions for its driver.

use std::cell::Cell;
use std::collections::VecDeque;

use crate::Action;

/// Queue of a session's actions for its driver, in order; owns no memory while it is empty.
///
/// There are many sessions, and all but the one whose input is being handled have no actions. So an empty queue is one
/// word, and a thread's sessions use the same ring in turn.
#[derive(Debug, Default)]
// Boxed, since it is nearly always absent.
#[allow(clippy::box_collection, reason = "one word when empty, which is nearly always")]
pub struct Actions(Option<Box<VecDeque<Action>>>);

impl Actions {
    /// Creates an empty queue.
    #[inline]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an action.
    #[inline]
    pub fn push(&mut self, action: Action) {
        self.0.get_or_insert_with(spare_ring).push_back(action);
    }

    /// Removes and returns the next action.
    #[inline]
    pub fn pop(&mut self) -> Option<Action> {
        let ring = self.0.as_mut()?;
        let action = ring.pop_front();
        if ring.is_empty() {
            self.0.take().into_iter().for_each(keep_ring);
        }
        action
    }

    /// Returns whether the queue is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

thread_local! {
    /// Empty ring that the next session of this thread uses.
    ///
    /// A parameter of every input of a [`Session`](crate::Session) would replace it, but each author of a session
    /// would have to pass it on.
    static SPARE: Cell<Option<Box<VecDeque<Action>>>> = const { Cell::new(None) };
}

fn spare_ring() -> Box<VecDeque<Action>> {
    SPARE.try_with(Cell::take).ok().flatten().unwrap_or_default()
}

fn keep_ring(ring: Box<VecDeque<Action>>) {
    if ring.capacity() <= RETAINED_CAPACITY {
        // A thread that is exiting drops it.
        let _ = SPARE.try_with(|spare| spare.set(Some(ring)));
    }
}

/// Largest ring that a thread keeps; more actions at a time are rare.
const RETAINED_CAPACITY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConnectionRole;

    #[test]
    fn keeps_order_and_frees_empty_ring() {
        let mut actions = Actions::new();
        let mut popped = vec![];
        for round in 0..3 {
            actions.push(Action::Promote);
            actions.push(Action::CloseProbe);
            actions.push(Action::Ping(ConnectionRole::Probe));
            if round == 1 {
                popped.extend(actions.pop());
                actions.push(Action::Promote);
            }
            while let Some(action) = actions.pop() {
                popped.push(action);
            }
            assert!(actions.is_empty());
            assert!(actions.0.is_none());
        }
        assert_eq!(size_of::<Actions>(), size_of::<usize>());
        let tags: String = popped
            .iter()
            .map(|action| match action {
                Action::Promote => 'p',
                Action::CloseProbe => 'c',
                Action::Ping(_) => 'g',
                _ => '?',
            })
            .collect();
        assert_eq!(tags, "pcgpcgppcg");
    }

    #[test]
    fn sessions_share_small_rings() {
        let spare = || {
            SPARE.with(|spare| {
                let ring = spare.take();
                let capacity = ring.as_ref().map(|ring| ring.capacity());
                spare.set(ring);
                capacity
            })
        };
        let mut sessions = [Actions::new(), Actions::new()];
        for actions in &mut sessions {
            actions.push(Action::Promote);
            assert_eq!(spare(), None);
            assert!(actions.pop().is_some() && actions.pop().is_none());
        }
        assert!(spare().is_some_and(|capacity| capacity > 0));
        (0..=RETAINED_CAPACITY).for_each(|_| sessions[0].push(Action::Promote));
        while sessions[0].pop().is_some() {}
        assert_eq!(spare(), None);
    }
}
