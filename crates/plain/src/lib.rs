//! The session and codecs of a client that speaks plain WebSocket, in the same rooms as Socket.IO clients
