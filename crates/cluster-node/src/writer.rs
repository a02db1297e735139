//! Publications of a namespace, composed on the calling thread.

use bytestring::ByteString;
use roomcast_core::{Args, Delivery, Event, Membership, Room, Target};
use roomcast_node_adapter::{Composed, EntryFields, Flags, Recipients, entry_bytes};

use crate::input::{Input, Key, Publication, Writer};
use crate::shared::{MESSAGE_COST, cost};

impl Writer {
    /// Returns the channel of a room, if it has one.
    pub(crate) fn room_channel(&self, room: &Room) -> Option<ByteString> {
        match self {
            Self::Sharded(writer) => writer.room_channel(room),
            Self::Classic(_) | Self::Streams(_) => None,
        }
    }

    pub(crate) fn broadcast(&self, key: Key, target: &Target, event: &Event) -> Publication {
        let recipients = Recipients::from(target);
        let flags = flags(target, event);
        match self {
            Self::Classic(writer) => writer.broadcast(&recipients, &flags, event).map(message),
            Self::Sharded(writer) => writer.broadcast(&recipients, &flags, event).map(message),
            Self::Streams(writer) => {
                let fields = writer.broadcast(&recipients, &flags, event)?;
                // The server delivers volatile events itself.
                let is_ordered = target.delivery == Delivery::Reliable;
                let local = is_ordered.then(|| Box::new((target.clone(), event.clone())));
                Ok(entry(key, fields, local))
            }
        }
    }

    pub(crate) fn update(&self, key: Key, recipients: Recipients, change: Membership) -> Publication {
        Ok(match self {
            Self::Classic(writer) => message(writer.update(recipients, change)),
            Self::Sharded(writer) => message(writer.update(recipients, change)),
            Self::Streams(writer) => entry(key, writer.update(recipients, change), None),
        })
    }

    pub(crate) fn disconnect(&self, key: Key, recipients: Recipients, close: bool) -> Publication {
        Ok(match self {
            Self::Classic(writer) => message(writer.disconnect(recipients, close)),
            Self::Sharded(writer) => message(writer.disconnect(recipients, close)),
            Self::Streams(writer) => entry(key, writer.disconnect(recipients, close), None),
        })
    }

    pub(crate) fn server_side_emit(&self, name: &ByteString, args: &Args) -> Publication {
        match self {
            Self::Classic(writer) => writer.server_side_emit(name, args).map(message),
            Self::Sharded(writer) => writer.server_side_emit(name, args).map(message),
            Self::Streams(writer) => writer.server_side_emit(name, args).map(message),
        }
    }
}

fn message(message: Composed) -> (Input, usize) {
    let bytes = cost(&message);
    (Input::Publish(message), bytes)
}

fn entry(key: Key, fields: EntryFields, local: Option<Box<(Target, Event)>>) -> (Input, usize) {
    let event = local.as_ref().map_or(0, |local| local.1.name.len() + local.1.args.byte_len() + MESSAGE_COST);
    let bytes = entry_bytes(&fields) + event;
    (Input::Append { key, fields, local }, bytes)
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
