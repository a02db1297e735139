//! What a session wants done, until its driver does it

use std::collections::VecDeque;

use crate::Action;

/// What a session asks of its driver, in order; owns no memory while it is empty
///
/// Nearly every input causes one action at most, so the first one lies here and only those behind it in a ring,
/// which is given back as soon as it is empty: there are many sessions, and most of them are idle.
#[derive(Debug, Default)]
pub struct Actions {
    first: Option<Action>,
    // Boxed, since it is nearly always empty.
    #[allow(clippy::box_collection, reason = "three words are much where it is nearly always empty")]
    rest: Option<Box<VecDeque<Action>>>,
}

impl Actions {
    /// Nothing to do
    #[inline]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an action
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

    /// Takes the next action
    #[inline]
    pub fn pop(&mut self) -> Option<Action> {
        // Asked once more than there are any: so much memory need not be moved to say no.
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

    /// Whether there is nothing to do
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lane;

    #[test]
    fn actions_keep_their_order_and_leave_no_memory_behind() {
        let mut actions = Actions::new();
        let mut popped = vec![];
        for round in 0..3 {
            actions.push(Action::Promote);
            actions.push(Action::CloseProbe);
            actions.push(Action::Ping(Lane::Probe));
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
