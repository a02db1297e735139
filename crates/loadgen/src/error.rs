use std::io;

/// Why a benchmark program could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused something the program needs.
    #[error("{doing}: {cause}")]
    System {
        /// Operation that failed.
        doing: String,
        /// Error returned by the system.
        cause: io::Error,
    },
    /// The server broke the protocol or closed a connection; its own log should say why.
    #[error("the server misbehaved: {0}")]
    Server(String),
    /// Nothing arrived for longer than the run waits.
    #[error("the server stalled: {0}")]
    Stalled(String),
    /// The options contradict each other or ask for what this machine has not.
    #[error("{0}")]
    Usage(String),
}

/// Adds the failed operation to a system error.
pub trait Doing<T> {
    /// `what` is said like "read a file"
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|error| Error::System { doing: what(), cause: error.into() })
    }
}
