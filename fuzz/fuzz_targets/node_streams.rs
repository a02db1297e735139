//! See [`roomcast_fuzz::node_streams`].
#![cfg_attr(fuzzing, no_main)]

roomcast_fuzz::fuzzer!(node_streams);
