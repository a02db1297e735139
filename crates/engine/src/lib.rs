//! Engine.IO v4 as a state machine without I/O: handshake, heartbeat, upgrade, packets
