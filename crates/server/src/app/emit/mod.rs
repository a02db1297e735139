//! Emits to one socket and to rooms, emit operators and backpressure.

pub(crate) mod answers;
pub(crate) mod broadcast;
pub(crate) mod operators;
pub(crate) mod remote;
pub(crate) mod socket;
pub(crate) mod writable;
