//! The vocabulary of Roomcast: messages, frames, events, the outbox, and the traits its parts meet at

mod message;

pub use message::Message;
