//! Real-time messaging: Socket.IO and plain WebSocket clients in the same rooms

pub use roomcast_rooms::Rooms;
pub use roomcast_server::*;
