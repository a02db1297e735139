//! What waits to be done

use std::collections::VecDeque;

use roomcast_core::Action;

/// What a session asks of its driver, in order; owns no memory while it is empty
///
/// A message causes one action at most, so the first one lies here. Several come only when a client is let in.
#[derive(Debug, Default)]
pub(crate) struct Actions {
    first: Option<Action>,
    rest: VecDeque<Action>,
}

impl Actions {
    pub(crate) fn push(&mut self, action: Action) {
        if self.first.is_none() {
            self.first = Some(action);
        } else {
            self.rest.push_back(action);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Action> {
        let action = self.first.take();
        if self.rest.capacity() > 0 {
            self.advance();
        }
        action
    }

    #[cold]
    fn advance(&mut self) {
        self.first = self.rest.pop_front();
        if self.rest.is_empty() {
            self.rest = VecDeque::new();
        }
    }
}
