//! Control handle of a socket, used by its router.

use std::sync::atomic::{Ordering, fence};
use std::task::{Context, Poll};

use roomcast_core::{AckTable, ByteString, CloseReason, Member, MemberControl, MemberLimit};

use super::{Inner, SocketState};
use crate::host::limit::{Limit, limit_exceeded};
use crate::session::mailbox::SessionCommand;
use crate::util::log_limit::log_limited;

impl MemberControl for Inner {
    fn member(&self) -> Option<&Member> {
        Some(&self.member)
    }

    fn acks(&self) -> Option<&AckTable> {
        let limit = || self.session.io.config().limits.max_acks;
        let acks = &self.extras.get_or_init(Box::default).acks;
        let acks = acks.get_or_init(|| AckTable::with_limit(limit()));
        // Either this thread sees the flag, or `close_acks` sees the new table. It is not closed here, since that
        // notifies waiting tasks, and the caller may hold a lock.
        fence(Ordering::SeqCst);
        Some(if self.acks_closed.load(Ordering::Acquire) { AckTable::closed() } else { acks })
    }

    fn handshake(&self) -> ByteString {
        self.session.handshake.to_json(&self.auth_json()).into()
    }

    fn data(&self) -> ByteString {
        self.extras.get().map(|extras| extras.user_data.data_json()).unwrap_or_default()
    }

    fn handled_events(&self) -> ByteString {
        self.extras.get().map(|extras| extras.user_data.handled_events()).unwrap_or_default()
    }

    fn disconnect(&self, close: bool) {
        // As on Node: a socket that has left does not affect other or later sockets of its client.
        let whole = close && self.lifecycle.get() <= SocketState::IN;
        if whole {
            self.session.has_disconnected.store(true, Ordering::SeqCst);
        }
        let mut tells = self.mark_disconnected();
        if whole {
            let siblings = self.extras.get().and_then(|extras| extras.siblings.get());
            siblings
                .into_iter()
                .flat_map(|siblings| siblings.all())
                .for_each(|sibling| _ = sibling.mark_disconnected());
            tells = true;
        }
        if tells {
            let visit = if whole {
                SessionCommand::Close(CloseReason::ForcedServerClose)
            } else {
                SessionCommand::SocketDisconnected
            };
            // Fails only if the session has already ended.
            let _ = self.session.mailbox.push(visit);
        }
        // The client may have recovered its session on another connection.
        if self.lifecycle.get() == SocketState::BARRED {
            match self.successor() {
                Some(successor) => MemberControl::disconnect(&*successor.0, close),
                // It may also have recovered and left again in the meantime.
                None => self.forget(),
            }
        }
    }

    fn displace(&self) {
        // Fails only if the session has already ended.
        let _ = self.session.mailbox.push(SessionCommand::Displace(self.member.key));
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.member.outbox.poll_writable(cx)
    }

    fn max_rooms(&self) -> usize {
        self.session.io.config().limits.max_rooms
    }

    fn limited(&self, limit: MemberLimit) {
        let (io, socket) = (&self.session.io, &self.member.id);
        match limit {
            MemberLimit::Rooms => {
                let max = io.config().limits.max_rooms;
                limit_exceeded!(io, Limit::Rooms, %socket, value = max, "join refused: socket is in too many rooms");
            }
            MemberLimit::Answers => {
                let max = io.config().limits.max_acks;
                limit_exceeded!(io, Limit::Acks, %socket, value = max, "event dropped: too many acknowledgements outstanding");
            }
            other => log_limited!(ERROR, (), limit = ?other, "router reported an unknown limit"),
        }
    }
}
