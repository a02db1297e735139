//! Router member with observable output.

use std::sync::Arc;

use roomcast_core::{
    AckTable, Bounds, Codec, FlushList, Flusher, Member, MemberControl, MemberKey, Outbox, SocketId,
};

use crate::MemorySink;

/// Member with its own outbox, flush list and sink, whose output a test can read.
#[derive(Clone, Debug)]
pub struct MemberProbe {
    member: Member,
    list: FlushList,
    sink: MemorySink,
}

impl MemberProbe {
    /// Creates a member that accepts everything, with an outbox of 1 MiB.
    pub fn new<C: Codec>(id: &str, codec: &Arc<C>) -> Self {
        Self::with_limit(id, codec, 1 << 20)
    }

    /// Creates a member with an outbox of this many bytes.
    pub fn with_limit<C: Codec>(id: &str, codec: &Arc<C>, limit: usize) -> Self {
        let probe = Self::detached(id, codec, limit);
        probe.member.outbox.set_sink(probe.sink.boxed());
        probe
    }

    /// Creates a member whose outbox has no sink, like a client between two connections.
    ///
    /// [`connect`](Self::connect) attaches the sink.
    pub fn detached<C: Codec>(id: &str, codec: &Arc<C>, limit: usize) -> Self {
        let list = FlushList::new();
        let outbox = Outbox::new(Bounds::new(limit, limit), list.clone());
        let member = Member {
            key: MemberKey::next(),
            id: SocketId::new(id),
            codec: Arc::clone(codec) as Arc<dyn Codec>,
            outbox,
            acks: Some(AckTable::default()),
            control: None,
        };
        Self { member, list, sink: MemorySink::new() }
    }

    /// Attaches the sink to the outbox.
    pub fn connect(&self) {
        self.member.outbox.set_sink(self.sink.boxed());
    }

    /// Replaces the table of pending acknowledgements.
    #[must_use]
    pub fn with_acks(mut self, acks: AckTable) -> Self {
        self.member.acks = Some(acks);
        self
    }

    /// Sets the socket control.
    #[must_use]
    pub fn with_control(mut self, control: Arc<dyn MemberControl>) -> Self {
        self.member.control = Some(control);
        self
    }

    /// Returns the member for a router, with a new key on each call.
    pub fn member(&self) -> Member {
        Member { key: MemberKey::next(), ..self.member.clone() }
    }

    /// Returns its public id.
    pub fn id(&self) -> &SocketId {
        &self.member.id
    }

    /// Returns its outbox.
    pub fn outbox(&self) -> &Outbox {
        &self.member.outbox
    }

    /// Returns its pending acknowledgements.
    pub fn acks(&self) -> &AckTable {
        self.member.acks()
    }

    /// Returns its sink.
    pub fn sink(&self) -> &MemorySink {
        &self.sink
    }

    /// Flushes the outbox and returns the frames received since the last call, in order, as text.
    pub fn received(&self) -> Vec<String> {
        Flusher::new(self.list.clone()).write_all();
        self.sink.take_texts()
    }
}
