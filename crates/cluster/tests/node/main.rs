//! Behaviour of one node against a scripted engine.

mod channels;
mod membership;
mod order;
mod resume;
mod rig;
