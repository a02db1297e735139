//! Server under test of external suites.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Running `conformance_server` on a free port; killed on drop.
pub(crate) struct Server {
    child: Child,
    /// Host and port.
    pub(crate) address: String,
}

impl Server {
    /// Starts the server and waits until it listens.
    pub(crate) fn start(program: &Path, flags: &[&str]) -> io::Result<Self> {
        let child = Command::new(program).args(flags).stdout(Stdio::piped()).spawn()?;
        let mut server = Self { child, address: String::new() };
        let mut line = String::new();
        if let Some(stdout) = &mut server.child.stdout {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        match line.trim().rsplit_once("http://") {
            Some((_, address)) => address.clone_into(&mut server.address),
            None => return Err(io::Error::other(format!("expected a listen address, got {line:?}"))),
        }
        Ok(server)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have exited already, which its client reports.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
