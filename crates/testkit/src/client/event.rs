//! An event as a test sees it

use std::fmt;

use roomcast_core::{Args, ArgsError};
use serde::de::DeserializeOwned;

/// An event that the server sent to a [`TestClient`](crate::TestClient)
#[derive(Clone)]
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

/// As it would be called: `said("red", <3 bytes>)`
impl fmt::Display for TestEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name, readable(&self.args))
    }
}

impl fmt::Debug for TestEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Arguments for people: binary parts by their lengths, and no more than fits on a few lines
pub(super) fn readable(args: &Args) -> String {
    const MOST: usize = 500;
    let list = args.iter().collect::<Vec<_>>().join(", ");
    let mut list = args.attachments().iter().enumerate().fold(list, |list, (number, bytes)| {
        let placeholder = format!(r#"{{"_placeholder":true,"num":{number}}}"#);
        list.replace(&placeholder, &format!("<{} bytes>", bytes.len()))
    });
    if list.len() > MOST {
        list.truncate(list.floor_char_boundary(MOST));
        list.push('…');
    }
    list
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
