//! Socket of another node, as an answer described it.

use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;
use roomcast_core::{MemberControl, Namespace, Room, SocketId};

use crate::shared::Shared;

/// Socket of another node, as an answer described it.
pub(crate) struct RemoteSocket {
    shared: Arc<Shared>,
    namespace: Namespace,
    id: SocketId,
    handshake: ByteString,
    data: ByteString,
}

impl RemoteSocket {
    pub(crate) fn new(
        shared: Arc<Shared>,
        namespace: Namespace,
        id: SocketId,
        handshake: ByteString,
        data: ByteString,
    ) -> Self {
        Self { shared, namespace, id, handshake, data }
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
        self.shared.disconnect_remote(&self.namespace, Room::from(self.id.as_str()), close);
    }
}

impl fmt::Debug for RemoteSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteSocket").field("id", &self.id).finish_non_exhaustive()
    }
}
