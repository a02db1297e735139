//! Event received by a test client.

use std::fmt;

use roomcast_core::{Args, ArgsError};
use serde::de::DeserializeOwned;

/// Event that the server sent to a [`TestClient`](crate::TestClient).
#[derive(Clone)]
pub struct TestEvent {
    pub(super) name: String,
    pub(super) args: Args,
    pub(super) ack: Option<u64>,
}

impl TestEvent {
    /// Returns the event name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the arguments.
    pub fn args(&self) -> &Args {
        &self.args
    }

    /// Deserializes the single argument, or all arguments as a tuple.
    ///
    /// # Errors
    ///
    /// Returns an error if the arguments have a different type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        read(&self.args)
    }

    /// Returns whether the server expects an acknowledgement.
    pub fn asks(&self) -> bool {
        self.ack.is_some()
    }
}

/// Formats the event as a call: `said("red", <3 bytes>)`.
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

/// Formats arguments for display: binary parts by length, truncated to a few lines.
pub(super) fn readable(args: &Args) -> String {
    const MOST: usize = 500;
    let list = args.iter().collect::<Vec<_>>().join(", ");
    let mut list = args.attachments().iter().enumerate().fold(list, |list, (number, bytes)| {
        let placeholder = format!(r#"{{"_placeholder":true,"num":{number}}}"#);
        list.replace(&placeholder, &format!("<{} bytes>", bytes.len()))
    });
    if list.len() > MOST {
        let end = (0..=MOST).rev().find(|end| list.is_char_boundary(*end)).unwrap_or_default();
        list.truncate(end);
        list.push('…');
    }
    list
}

/// Converts test values to arguments: a single value, a tuple for several, `()` for none.
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
