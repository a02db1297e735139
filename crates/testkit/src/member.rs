//! A member whose post a test can read

use std::sync::Arc;

use roomcast_core::{
    AckTable, Bounds, Codec, FlushList, Flusher, Member, MemberControl, MemberKey, Outbox, SocketId,
};

use crate::MemorySink;

/// A member with an outbox, a flush list and a sink of its own, whose post a test can read
#[derive(Clone, Debug)]
pub struct MemberProbe {
    member: Member,
    list: FlushList,
    sink: MemorySink,
}

impl MemberProbe {
    /// A member that takes everything, with an outbox of 1 MiB
    pub fn new<C: Codec>(id: &str, codec: &Arc<C>) -> Self {
        Self::with_limit(id, codec, 1 << 20)
    }

    /// A member with an outbox of this many bytes
    pub fn with_limit<C: Codec>(id: &str, codec: &Arc<C>, limit: usize) -> Self {
        let probe = Self::detached(id, codec, limit);
        probe.member.outbox.set_sink(probe.sink.boxed());
        probe
    }

    /// A member whose outbox has no sink, like a client between two connections
    ///
    /// [`connect`](Self::connect) gives it the sink.
    pub fn detached<C: Codec>(id: &str, codec: &Arc<C>, limit: usize) -> Self {
        let list = FlushList::new();
        let outbox = Outbox::new(Bounds::new(limit, limit), list.clone());
        let member = Member {
            key: MemberKey::next(),
            id: SocketId::new(id),
            codec: Arc::clone(codec) as Arc<dyn Codec>,
            outbox,
            acks: AckTable::default(),
            control: None,
        };
        Self { member, list, sink: MemorySink::new() }
    }

    /// Gives the outbox its sink
    pub fn connect(&self) {
        self.member.outbox.set_sink(self.sink.boxed());
    }

    /// Replaces the table of answers it owes
    #[must_use]
    pub fn with_acks(mut self, acks: AckTable) -> Self {
        self.member.acks = acks;
        self
    }

    /// Gives it something that can be asked about it
    #[must_use]
    pub fn with_control(mut self, control: Arc<dyn MemberControl>) -> Self {
        self.member.control = Some(control);
        self
    }

    /// The member, for a router, under a key of its own each time
    pub fn member(&self) -> Member {
        Member { key: MemberKey::next(), ..self.member.clone() }
    }

    /// Its public id
    pub fn id(&self) -> &SocketId {
        &self.member.id
    }

    /// Where what it is sent waits
    pub fn outbox(&self) -> &Outbox {
        &self.member.outbox
    }

    /// The answers it owes
    pub fn acks(&self) -> &AckTable {
        &self.member.acks
    }

    /// Where what it is sent ends up
    pub fn sink(&self) -> &MemorySink {
        &self.sink
    }

    /// Writes what waits, and gives what has arrived since the last call, in order, as text
    pub fn received(&self) -> Vec<String> {
        Flusher::new(self.list.clone()).write_all();
        self.sink.take_texts()
    }
}
