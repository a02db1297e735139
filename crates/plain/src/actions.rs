//! What waits to be done

use std::collections::VecDeque;

use roomcast_core::Action;

/// What a session asks of its driver, in order; owns no memory while it is empty
///
/// A message causes one action at most, so the first one lies here. Several come only when a client is let in.
#[derive(Debug, Default)]
pub(crate) struct Actions {
    first: Option<Action>,
    // Boxed, since it is nearly always empty.
    #[allow(clippy::box_collection, reason = "three words are much where it is nearly always empty")]
    rest: Option<Box<VecDeque<Action>>>,
}

impl Actions {
    pub(crate) fn push(&mut self, action: Action) {
        if self.first.is_none() {
            self.first = Some(action);
        } else {
            self.rest.get_or_insert_default().push_back(action);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Action> {
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
}
