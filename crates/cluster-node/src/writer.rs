//! Publications of a namespace, composed on the calling thread.

use bytestring::ByteString;
use roomcast_core::{Args, Delivery, Event, Membership, Room, Target};
use roomcast_node_adapter::{Broadcast, Composed, EntryFields, Flags, Recipients, entry_bytes};

use crate::batch::Batch;
use crate::cost::{MESSAGE_COST, cost, cost_of};
use crate::input::{Input, Key, Publication, Queued, Writer};

impl Writer {
    /// Returns the channel of a room, if it has one.
    pub(crate) fn room_channel(&self, room: &Room) -> Option<ByteString> {
        match self {
            Self::Sharded(writer) => writer.room_channel(room),
            Self::Classic(_) | Self::Streams(_) => None,
        }
    }

    pub(crate) fn broadcast<'a>(&'a self, key: Key, target: &'a Target, event: &Event) -> Publication<'a> {
        let flags = flags(target, event);
        match self {
            Self::Classic(writer) => writer.compose(target, &flags, event).map(collected),
            Self::Sharded(writer) => writer.broadcast(&target.into(), &flags, event).map(message),
            Self::Streams(writer) => {
                let fields = writer.broadcast(&target.into(), &flags, event)?;
                // The server delivers volatile events itself.
                let is_ordered = target.delivery == Delivery::Reliable;
                let local = is_ordered.then(|| Box::new((target.clone(), event.clone())));
                Ok(entry(key, fields, local))
            }
        }
    }

    pub(crate) fn update(&self, key: Key, recipients: Recipients, change: Membership) -> Publication<'_> {
        Ok(match self {
            Self::Classic(writer) => message(writer.update(recipients, change)),
            Self::Sharded(writer) => message(writer.update(recipients, change)),
            Self::Streams(writer) => entry(key, writer.update(recipients, change), None),
        })
    }

    pub(crate) fn disconnect(&self, key: Key, recipients: Recipients, close: bool) -> Publication<'_> {
        Ok(match self {
            Self::Classic(writer) => message(writer.disconnect(recipients, close)),
            Self::Sharded(writer) => message(writer.disconnect(recipients, close)),
            Self::Streams(writer) => entry(key, writer.disconnect(recipients, close), None),
        })
    }

    pub(crate) fn server_side_emit(&self, name: &ByteString, args: &Args) -> Publication<'_> {
        match self {
            Self::Classic(writer) => writer.server_side_emit(name, args).map(message),
            Self::Sharded(writer) => writer.server_side_emit(name, args).map(message),
            Self::Streams(writer) => writer.server_side_emit(name, args).map(message),
        }
    }
}

fn message<'a>(message: Composed) -> (Queued<'a>, usize) {
    let bytes = cost(&message);
    (Queued::Alone(Input::Publish(message)), bytes)
}

fn collected(message: Broadcast<'_>) -> (Queued<'_>, usize) {
    let bytes = cost_of(message.byte_len());
    if Batch::collects(&message) {
        (Queued::Shared(message), bytes)
    } else {
        (Queued::Alone(Input::Publish(message.into())), bytes)
    }
}

fn entry<'a>(key: Key, fields: EntryFields, local: Option<Box<(Target, Event)>>) -> (Queued<'a>, usize) {
    let event = local.as_ref().map_or(0, |local| local.1.name.len() + local.1.args.byte_len() + MESSAGE_COST);
    let bytes = entry_bytes(&fields) + event;
    (Queued::Alone(Input::Append { key, fields, local }), bytes)
}

pub(crate) fn flags(target: &Target, event: &Event) -> Flags {
    Flags {
        volatile: target.delivery == Delivery::Volatile,
        compress: (!event.compress).then_some(false),
        key: event.key.as_deref().map(ByteString::from),
        overflow: target.overflow,
        ..Flags::default()
    }
}
