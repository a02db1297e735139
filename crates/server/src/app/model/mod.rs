//! State of the server, its namespaces and sockets.

pub(crate) mod ack;
pub(crate) mod children;
pub(crate) mod cluster_link;
pub(crate) mod event_input;
pub(crate) mod event_rewrite;
pub(crate) mod handler_future;
pub(crate) mod io;
pub(crate) mod listeners;
pub(crate) mod namespace_state;
pub(crate) mod other_nodes;
pub(crate) mod outgoing_listeners;
pub(crate) mod parents;
pub(crate) mod room_hooks;
pub(crate) mod server_side_handlers;
pub(crate) mod socket;
pub(crate) mod turns;
pub(crate) mod user_data;
