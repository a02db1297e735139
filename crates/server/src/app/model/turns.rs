//! Order in which serial handlers of a socket run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::app::model::listeners::ListenerId;

/// Locks of the serial handlers that a socket has used.
#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<ListenerId, Turn>>);

/// Fair lock, acquired in the order of the events.
pub(crate) type Turn = Arc<tokio::sync::Mutex<()>>;

impl Turns {
    pub(crate) fn of(&self, handler: ListenerId) -> Turn {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(handler).or_default().clone()
    }
}
