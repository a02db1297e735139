//! Registration of listeners for outgoing events.

use std::sync::Arc;

use crate::app::model::listeners::ListenerId;
use crate::app::model::outgoing_listeners::Outgoing;
use crate::app::model::socket::Socket;

impl Socket {
    /// Adds a listener for each event emitted to this socket, alone or in a broadcast.
    ///
    /// Listeners run in order of registration, before the event enters the outbox, on the task that emits; they must
    /// not block. They cannot stop the event, which may still be dropped as its delivery mode allows. Acknowledgements
    /// of the client's events are not reported, nor are events emitted by other nodes of a cluster. Once the socket has
    /// disconnected, its listeners are dropped and new ones are ignored.
    ///
    /// Emits have no extra cost while no socket of the namespace has such a listener. Otherwise each broadcast checks
    /// the rooms of the sockets that have one.
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

    /// Adds a listener like [`on_any_outgoing`](Self::on_any_outgoing), before all existing ones.
    pub fn prepend_any_outgoing(&self, listener: impl Fn(&Outgoing<'_>) + Send + Sync + 'static) -> &Self {
        self.state().outgoing.add(self, Arc::new(listener), |all, new| all.insert(0, new));
        self
    }

    /// Removes all listeners for outgoing events.
    pub fn off_any_outgoing(&self) -> &Self {
        self.state().outgoing.forget(self);
        self
    }

    /// Returns the listeners for outgoing events, in calling order.
    ///
    /// [`remove_listener`](Self::remove_listener) removes one.
    pub fn listeners_any_outgoing(&self) -> Vec<ListenerId> {
        self.state().outgoing.ids(self)
    }
}
