//! Socket of another node, as an answer described it.

use std::fmt;

use bytestring::ByteString;
use roomcast_core::{MemberControl, SocketId};

/// Socket of another node, as an answer described it.
pub struct RemoteSocket {
    id: SocketId,
    handshake: ByteString,
    data: ByteString,
    disconnect: Disconnect,
}

type Disconnect = Box<dyn Fn(&SocketId, bool) + Send + Sync>;

impl RemoteSocket {
    /// Creates a handle; `disconnect` publishes the disconnect of a socket, with `true` of its client.
    #[must_use]
    pub fn new(
        id: SocketId,
        handshake: ByteString,
        data: ByteString,
        disconnect: impl Fn(&SocketId, bool) + Send + Sync + 'static,
    ) -> Self {
        Self { id, handshake, data, disconnect: Box::new(disconnect) }
    }
}

impl MemberControl for RemoteSocket {
    fn handshake(&self) -> ByteString {
        self.handshake.clone()
    }

    fn data(&self) -> ByteString {
        self.data.clone()
    }

    fn disconnect(&self, close: bool) {
        (self.disconnect)(&self.id, close);
    }
}

impl fmt::Debug for RemoteSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteSocket").field("id", &self.id).finish_non_exhaustive()
    }
}
