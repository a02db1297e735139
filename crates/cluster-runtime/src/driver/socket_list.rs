//! Answers with sockets, in parts.

use std::collections::VecDeque;

use bytes::Bytes;
use roomcast_cluster::Asker;
use roomcast_core::SocketInfo;

use crate::body::SocketPart;

/// Answer with sockets that were not sent yet.
#[derive(Debug)]
pub(super) struct SocketList {
    pub(super) asker: Asker,
    sockets: VecDeque<SocketInfo>,
    /// Encoded socket that did not fit into the last part.
    carried: Option<Bytes>,
    parts: u32,
    /// A socket was too large to be sent, so the answer stays incomplete.
    is_incomplete: bool,
}

impl SocketList {
    pub(super) fn new(asker: Asker, sockets: Vec<SocketInfo>) -> Self {
        Self { asker, sockets: sockets.into(), carried: None, parts: 0, is_incomplete: false }
    }

    /// Returns the total number of parts once all were encoded; one more if a socket is missing.
    pub(super) fn expected(&self) -> Option<u32> {
        let is_over = self.sockets.is_empty() && self.carried.is_none();
        is_over.then(|| self.parts + u32::from(self.is_incomplete))
    }

    /// Encodes as many sockets as fit into `target` bytes, at least one; `None` if there is none.
    pub(super) fn next_part(&mut self, target: usize, limit: usize) -> Option<Bytes> {
        let mut part = SocketPart::new();
        let mut is_empty = true;
        while let Some(socket) = self.next_socket(limit) {
            if !is_empty && part.len() + socket.len() > target {
                self.carried = Some(socket);
                break;
            }
            part.push(&socket);
            is_empty = false;
        }
        self.parts += u32::from(!is_empty);
        (!is_empty).then(|| part.finish())
    }

    /// Returns the next socket that is not too large.
    fn next_socket(&mut self, limit: usize) -> Option<Bytes> {
        if let Some(carried) = self.carried.take() {
            return Some(carried);
        }
        while let Some(socket) = self.sockets.pop_front() {
            match SocketPart::socket(&socket).filter(|encoded| encoded.len() + SocketPart::OVERHEAD <= limit)
            {
                Some(encoded) => return Some(encoded),
                None => self.is_incomplete = true,
            }
        }
        None
    }
}
