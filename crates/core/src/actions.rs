//! Queue of a session's actions for its driver.

use std::cell::Cell;
use std::collections::VecDeque;

use crate::Action;

/// Queue of a session's actions for its driver, in order.
///
/// There are many sessions, but a thread handles the inputs of one at a time. So the actions are in memory that the
/// sessions of a thread use in turn: a queue takes it with the first action, and returns it by
/// [`release`](Self::release). An unused queue is one word.
#[derive(Debug, Default)]
pub struct Actions(Option<Box<Pending>>);

#[derive(Debug, Default)]
struct Pending {
    /// Separate from `rest`, since nearly every input causes at most one action.
    first: Option<Action>,
    rest: VecDeque<Action>,
}

impl Actions {
    /// Creates an empty queue.
    #[inline]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an action.
    #[inline]
    pub fn push(&mut self, action: Action) {
        let pending = self.0.get_or_insert_with(spare);
        if pending.first.is_none() {
            pending.first = Some(action);
        } else {
            pending.append(action);
        }
    }

    /// Removes and returns the next action.
    #[inline]
    pub fn pop(&mut self) -> Option<Action> {
        let pending = self.0.as_deref_mut()?;
        // Checked first: the call that finds nothing need not move a whole `Option<Action>`.
        pending.first.as_ref()?;
        let action = pending.first.take();
        if !pending.rest.is_empty() {
            pending.advance();
        }
        action
    }

    /// Returns whether the queue is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|pending| pending.first.is_none())
    }

    /// Returns the memory of an empty queue, for other sessions of this thread.
    ///
    /// For [`Session::release_memory`](crate::Session::release_memory).
    #[inline]
    pub fn release(&mut self) {
        if let Some(pending) = self.0.take_if(|pending| pending.first.is_none()) {
            keep(pending);
        }
    }
}

impl Pending {
    #[cold]
    fn append(&mut self, action: Action) {
        self.rest.push_back(action);
    }

    #[cold]
    fn advance(&mut self) {
        self.first = self.rest.pop_front();
    }
}

thread_local! {
    // Empty memory for the next queue, with a ring of at most `KEPT_ACTIONS`: it saves an allocation per visit of a
    // driver, and 120 bytes of each session in comparison with an action stored inline. As a parameter, it would have
    // to pass through every session.
    static SPARE: Cell<Option<Box<Pending>>> = const { Cell::new(None) };
}

fn spare() -> Box<Pending> {
    SPARE.try_with(Cell::take).ok().flatten().unwrap_or_default()
}

fn keep(pending: Box<Pending>) {
    if pending.rest.capacity() <= KEPT_ACTIONS {
        // A thread that is exiting drops it.
        let _ = SPARE.try_with(|spare| spare.set(Some(pending)));
    }
}

/// Largest ring that a thread keeps; several actions at a time are rare.
const KEPT_ACTIONS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConnectionRole;

    #[test]
    fn keeps_order_of_actions() {
        let mut actions = Actions::new();
        let mut popped = vec![];
        for round in 0..3 {
            actions.push(Action::Promote);
            actions.push(Action::CloseProbe);
            actions.push(Action::Ping(ConnectionRole::Probe));
            if round == 1 {
                popped.extend(actions.pop());
                actions.release();
                actions.push(Action::Promote);
            }
            while let Some(action) = actions.pop() {
                popped.push(action);
            }
            assert!(actions.is_empty());
        }
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
    fn sessions_share_released_memory() {
        let spare = || {
            let spare = SPARE.take();
            let address = spare.as_deref().map(|pending| std::ptr::from_ref(pending).addr());
            SPARE.set(spare);
            address
        };
        let mut sessions = [Actions::new(), Actions::new()];
        assert_eq!(size_of::<Actions>(), size_of::<usize>());
        let mut used = None;
        for actions in &mut sessions {
            actions.push(Action::Promote);
            assert_eq!(spare(), None);
            assert!(actions.pop().is_some() && actions.pop().is_none());
            actions.release();
            assert!(actions.0.is_none() && spare().is_some());
            assert_eq!(*used.get_or_insert_with(spare), spare());
        }
        (0..KEPT_ACTIONS + 2).for_each(|_| sessions[0].push(Action::Promote));
        while sessions[0].pop().is_some() {}
        sessions[0].release();
        assert_eq!(spare(), None, "a large ring is freed");
    }
}
