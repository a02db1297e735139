//! Registration of listeners to what is emitted to a socket

use std::sync::Arc;

use crate::app::model::listeners::ListenerId;
use crate::app::model::outgoing_listeners::Outgoing;
use crate::app::model::socket::Socket;

impl Socket {
    /// Called for each event that is emitted to this socket, alone or with others, before it is put into its outbox
    ///
    /// Several are called in order. They run in the task that emits, so they must not block, and cannot keep the event
    /// back; it may still be dropped, as its delivery allows. Answers to events of the client are no events. A socket
    /// that has left takes no more listeners, and lets go of those it had.
    ///
    /// While no socket of a namespace has one, emitting costs nothing more. While some have, each broadcast looks at
    /// their rooms. Events that another node of a cluster emits are not heard.
    ///
    /// ```
    /// # use roomcast_server::{Io, Socket};
    /// # let io = Io::new();
    /// io.on_connect(async |socket: Socket| {
    ///     socket.on_any_outgoing(|outgoing| {
    ///         println!("{} to {}: {}", outgoing.event, outgoing.socket.id(), outgoing.args.json());
    ///     });
    /// });
    /// ```
    pub fn on_any_outgoing(&self, listener: impl Fn(&Outgoing<'_>) + Send + Sync + 'static) -> &Self {
        self.state().outgoing.add(self, Arc::new(listener), Vec::push);
        self
    }

    /// As [`on_any_outgoing`](Self::on_any_outgoing), but called before those that were registered so far
    pub fn prepend_any_outgoing(&self, listener: impl Fn(&Outgoing<'_>) + Send + Sync + 'static) -> &Self {
        self.state().outgoing.add(self, Arc::new(listener), |all, new| all.insert(0, new));
        self
    }

    /// Takes back all that was registered by [`on_any_outgoing`](Self::on_any_outgoing) and
    /// [`prepend_any_outgoing`](Self::prepend_any_outgoing)
    pub fn off_any_outgoing(&self) -> &Self {
        self.state().outgoing.forget(self);
        self
    }

    /// Those registered by [`on_any_outgoing`](Self::on_any_outgoing), in the order in which they are called
    ///
    /// [`remove_listener`](Self::remove_listener) takes one back.
    pub fn listeners_any_outgoing(&self) -> Vec<ListenerId> {
        self.state().outgoing.ids(self)
    }
}
