//! Store of sessions in memory with faults.

mod store;

pub use store::{MemorySessionStore, StoreCall, StoreFault};
