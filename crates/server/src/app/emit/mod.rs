//! Emits: to one socket, to rooms, by operators, and waiting for room

pub(crate) mod answers;
pub(crate) mod broadcast;
pub(crate) mod operators;
pub(crate) mod remote;
pub(crate) mod socket;
pub(crate) mod writable;
