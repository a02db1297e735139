//! Member as the router keeps it.

use std::ops::Deref;
use std::sync::Arc;

use roomcast_core::{AckTable, Member, MemberControl};

/// Attached member, without a copy of what its control holds.
pub(crate) enum Attached {
    Copied(Box<Member>),
    /// The control [holds](MemberControl::member) the member.
    Held(Arc<dyn MemberControl>),
}

/// Member as a fan-out reads it: the member itself only if an acknowledgement is requested.
pub(crate) trait AsMember {
    fn member(&self) -> &Member;

    fn control(&self) -> Option<&Arc<dyn MemberControl>>;

    fn acks(&self) -> &AckTable;
}

impl AsMember for Member {
    fn member(&self) -> &Member {
        self
    }

    fn control(&self) -> Option<&Arc<dyn MemberControl>> {
        self.control.as_ref()
    }

    fn acks(&self) -> &AckTable {
        self.acks()
    }
}

impl AsMember for Attached {
    fn member(&self) -> &Member {
        self
    }

    fn control(&self) -> Option<&Arc<dyn MemberControl>> {
        Self::control(self)
    }

    fn acks(&self) -> &AckTable {
        match self {
            Self::Copied(member) => member.acks(),
            // The member that is held refers to no control.
            Self::Held(control) => match self.member().acks.as_ref().or_else(|| control.acks()) {
                Some(acks) => acks,
                None => AckTable::closed(),
            },
        }
    }
}

impl Attached {
    pub(crate) fn new(member: Member) -> Self {
        let held = member.control.as_ref().and_then(|control| control.member());
        // A recovery may have changed the key.
        let is_held = held.is_some_and(|held| held.key == member.key);
        match member.control {
            Some(control) if is_held => Self::Held(control),
            control => Self::Copied(Box::new(Member { control, ..member })),
        }
    }

    /// Returns the control, which a member that is held need not have.
    pub(crate) fn control(&self) -> Option<&Arc<dyn MemberControl>> {
        match self {
            Self::Copied(member) => member.control.as_ref(),
            Self::Held(control) => Some(control),
        }
    }
}

impl Deref for Attached {
    type Target = Member;

    fn deref(&self) -> &Member {
        match self {
            Self::Copied(member) => member,
            Self::Held(control) => control.member().expect("it was held when it was attached"),
        }
    }
}

#[cfg(test)]
mod tests {
    use roomcast_core::{AckId, AckRequest, ByteString, MemberKey};
    use roomcast_testkit::{AnswerLog, MemberProbe, TextCodec};

    use super::*;

    /// Control that holds its member, and makes the table of acknowledgements.
    #[derive(Debug)]
    struct Holder {
        member: Member,
        acks: AckTable,
    }

    impl MemberControl for Holder {
        fn member(&self) -> Option<&Member> {
            Some(&self.member)
        }

        fn acks(&self) -> Option<&AckTable> {
            Some(&self.acks)
        }

        fn handshake(&self) -> ByteString {
            ByteString::new()
        }

        fn data(&self) -> ByteString {
            ByteString::new()
        }

        fn disconnect(&self, _close: bool) {}
    }

    fn held() -> (Arc<Holder>, Member) {
        let probe = MemberProbe::new("a", &TextCodec::new("t"));
        let member = Member { acks: None, ..probe.member() };
        let holder = Arc::new(Holder { member: member.clone(), acks: AckTable::default() });
        let control: Arc<dyn MemberControl> = holder.clone();
        (holder, Member { control: Some(control), ..member })
    }

    #[test]
    fn held_member_is_not_copied() {
        let (holder, member) = held();
        let rekeyed = Attached::new(Member { key: MemberKey::next(), ..member.clone() });
        assert!(!std::ptr::eq(&*rekeyed, &holder.member) && rekeyed.key != holder.member.key);
        let attached = Attached::new(member);
        assert!(std::ptr::eq(&*attached, &holder.member) && attached.control().is_some());
        let uncontrolled = Attached::new(holder.member.clone());
        assert!(!std::ptr::eq(&*uncontrolled, &holder.member) && uncontrolled.control().is_none());
    }

    #[test]
    fn control_supplies_ack_table() {
        let (holder, member) = held();
        let (request, _log): (AckRequest, Arc<AnswerLog>) = AnswerLog::request(1);
        let rekeyed = Attached::new(Member { key: MemberKey::next(), ..member.clone() });
        for recipient in [&Attached::new(member), &rekeyed] {
            assert!(recipient.acks().register(&recipient.id, &request));
            assert!(holder.acks.withdraw(AckId(1)));
        }
        let without = Attached::new(holder.member.clone());
        assert!(!without.acks().register(&without.id, &request) && without.acks().is_closed());
    }
}
