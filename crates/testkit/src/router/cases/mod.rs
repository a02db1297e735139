//! The rules that a router must keep, one function each.

mod addressing;
mod answers;
mod delivery;
mod membership;
mod watching;

use std::sync::Arc;

use roomcast_core::{AckRequest, Args, Codec, Event, MemberKey, Namespace, Receipt, Room, Router, Target};

pub use addressing::*;
pub use answers::*;
pub use delivery::*;
pub use membership::*;
pub use watching::*;

use crate::MemberProbe;

type Subject = Arc<dyn Router>;

fn attach<C: Codec>(router: &Subject, id: &str, codec: &Arc<C>) -> (MemberProbe, MemberKey) {
    let probe = MemberProbe::new(id, codec);
    let key = router.attach(probe.member());
    (probe, key)
}

fn attach_all<C: Codec, const N: usize>(
    router: &Subject,
    codec: &Arc<C>,
    ids: [&str; N],
) -> [(MemberProbe, MemberKey); N] {
    ids.map(|id| attach(router, id, codec))
}

fn emit<const N: usize>(router: &Subject, to: [&str; N], name: &str) -> Receipt {
    emit_event(router, to, &event(name))
}

fn emit_event<const N: usize>(router: &Subject, to: [&str; N], event: &Event) -> Receipt {
    router.broadcast(&Target { rooms: rooms(to), ..Target::default() }, event).flush_backlog()
}

fn event(name: &str) -> Event {
    Event::new(Namespace::main(), name.to_owned(), Args::empty())
}

fn asking(name: &str, request: &AckRequest) -> Event {
    Event { ack: Some(request.clone()), ..event(name) }
}

fn rooms<const N: usize>(names: [&str; N]) -> Vec<Room> {
    names.map(Room::from).into()
}

fn queued(queued: usize) -> Receipt {
    Receipt { queued, ..Receipt::default() }
}
