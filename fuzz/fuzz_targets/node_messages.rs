//! See [`roomcast_fuzz::node_messages`].
#![cfg_attr(fuzzing, no_main)]

roomcast_fuzz::fuzzer!(node_messages);
