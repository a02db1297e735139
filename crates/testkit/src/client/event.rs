//! An event as a test sees it

use roomcast_core::{Args, ArgsError};
use serde::de::DeserializeOwned;

/// An event that the server sent to a [`TestClient`](crate::TestClient)
#[derive(Debug, Clone)]
pub struct TestEvent {
    pub(super) name: String,
    pub(super) args: Args,
    pub(super) ack: Option<u64>,
}

impl TestEvent {
    /// Its name
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its arguments
    pub fn args(&self) -> &Args {
        &self.args
    }

    /// Its one argument, or a tuple of them
    ///
    /// # Errors
    /// When they are something else.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        read(&self.args)
    }

    /// Whether the server waits for an answer
    pub fn asks(&self) -> bool {
        self.ack.is_some()
    }
}

/// Arguments as a test writes them: one is itself, several are a tuple, none is `()`
pub(super) fn read<T: DeserializeOwned>(args: &Args) -> Result<T, ArgsError> {
    let several = || {
        let list = format!("[{}]", args.json());
        Args::from_validated(list.into(), args.attachments().to_vec()).get(0)
    };
    match args.len() {
        0 | 1 => args.get(0).or_else(|error| several().map_err(|_| error)),
        _ => several(),
    }
}
