//! Real-time messaging: Socket.IO and plain WebSocket clients in the same rooms
