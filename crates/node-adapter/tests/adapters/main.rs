//! The sharded adapter and the streams adapter: messages, and nodes on a Redis in memory in virtual time.

mod appends;
mod codec;
mod network;
mod reader;
mod restore;
mod sharded;
mod streams;

use roomcast_core::{Event, IntoArgs, Namespace, Room};
use roomcast_node_adapter::Recipients;

fn rooms(names: &[&str]) -> Vec<Room> {
    names.iter().map(|name| Room::new(*name)).collect()
}

fn to(names: &[&str], except: &[&str]) -> Recipients {
    Recipients { rooms: rooms(names), except: rooms(except) }
}

fn event(name: &str, args: impl IntoArgs) -> Event {
    Event::new(Namespace::main(), name, args.into_args().expect("serializable"))
}
