//! Queue of a session's actions for its driver.

use std::collections::VecDeque;

use crate::Action;

/// Queue of a session's actions for its driver, in order; owns no memory while it is empty.
///
/// Nearly every input causes at most one action, so the first one is stored inline. Further ones go to a ring that is
/// freed as soon as it is empty, since there are many sessions and most are idle.
#[derive(Debug, Default)]
pub struct Actions {
    first: Option<Action>,
    // Boxed, since it is nearly always empty.
    #[allow(clippy::box_collection, reason = "one word when empty, which is nearly always")]
    rest: Option<Box<VecDeque<Action>>>,
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
        if self.first.is_none() {
            self.first = Some(action);
        } else {
            self.append(action);
        }
    }

    #[cold]
    fn append(&mut self, action: Action) {
        self.rest.get_or_insert_default().push_back(action);
    }

    /// Removes and returns the next action.
    #[inline]
    pub fn pop(&mut self) -> Option<Action> {
        // Checked first: the call that finds nothing need not move a whole `Option<Action>`.
        self.first.as_ref()?;
        let action = self.first.take();
        if self.rest.is_some() {
            self.advance();
        }
        action
    }

    #[cold]
    fn advance(&mut self) {
        self.first = self.rest.as_mut().and_then(|rest| rest.pop_front());
        self.rest.take_if(|rest| rest.is_empty());
    }

    /// Returns whether the queue is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

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
            assert!(actions.rest.is_none());
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
}
