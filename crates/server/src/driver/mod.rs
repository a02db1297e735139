//! Driver task of a session

mod admission;
mod closing;
mod crew;
mod drive;
mod errors;
mod events;
mod flow;
mod joining;
mod lane;
mod members;
mod opening;
mod phase;
mod rate;
mod reach;
mod reading;
mod running;
mod state;
mod timer;
mod upgrade;
mod work;

pub(crate) use self::state::Driver;
