//! What an application sees: the server and its sockets, handlers, emits and typed events

pub(crate) mod emit;
pub(crate) mod handler;
pub(crate) mod model;
