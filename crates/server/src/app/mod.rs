//! Server API: server, sockets, handlers, emits and typed events.

pub(crate) mod builder;
pub(crate) mod data;
pub(crate) mod dynamic;
pub(crate) mod emit;
pub(crate) mod error;
pub(crate) mod handler;
pub(crate) mod into_rooms;
pub(crate) mod model;
pub(crate) mod namespace;
pub(crate) mod outgoing;
pub(crate) mod rooms;
pub(crate) mod server_side;
pub(crate) mod typed;
pub(crate) mod validate;
