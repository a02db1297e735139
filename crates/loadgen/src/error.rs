use std::io;

/// Error of a benchmark program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("{doing}: {cause}")]
    System {
        /// Operation that failed.
        doing: String,
        /// Error returned by the system.
        cause: io::Error,
    },
    /// The server violated the protocol or closed a connection; see its log.
    #[error("server error: {0}")]
    Server(String),
    /// Nothing arrived within the stall timeout.
    #[error("server stalled: {0}")]
    Stalled(String),
    /// The target does not accept connections.
    #[error(
        "target unreachable: connect to {target}: {cause}; start the server there, or correct host and port"
    )]
    Unreachable {
        /// Host and port.
        target: String,
        /// Error returned by the system.
        cause: io::Error,
    },
    /// The target ended a search that needs more than one run.
    #[error("{0}")]
    Target(String),
    /// The options contradict each other or exceed the machine's resources.
    #[error("{0}")]
    Usage(String),
}

/// Names the failed operation of a system error.
pub trait ErrorContext<T> {
    /// Converts the error; `what` names the operation, such as "read a file".
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> ErrorContext<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|error| Error::System { doing: what(), cause: error.into() })
    }
}
