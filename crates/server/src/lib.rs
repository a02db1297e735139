//! The Roomcast server: HTTP in, one driver task a session, handlers, builder, tower layer
