//! What an application sees: the server and its sockets, handlers, emits and typed events

pub(crate) mod builder;
pub(crate) mod emit;
pub(crate) mod error;
pub(crate) mod handler;
pub(crate) mod model;
pub(crate) mod typed;
pub(crate) mod validate;
