//! Driver task of a session

mod claiming;
mod closing;
mod connection_slot;
mod delivery_proof;
mod dispatch;
mod drive;
mod errors;
mod events;
mod flow;
mod joining;
mod members;
mod opening;
mod pending;
mod phase;
mod rate;
mod reading;
mod running;
mod running_handlers;
mod state;
mod timer;
mod upgrade;

pub(crate) use self::state::Driver;
