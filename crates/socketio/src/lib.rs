//! Socket.IO v5 as a state machine without I/O: packets, namespaces, attachments, acks
