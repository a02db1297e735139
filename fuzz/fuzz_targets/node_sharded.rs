//! See [`roomcast_fuzz::node_sharded`].
#![cfg_attr(fuzzing, no_main)]

roomcast_fuzz::fuzzer!(node_sharded);
