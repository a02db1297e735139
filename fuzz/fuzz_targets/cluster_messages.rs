//! See `roomcast_fuzz::cluster_messages`.

#![cfg_attr(fuzzing, no_main)]

roomcast_fuzz::fuzzer!(cluster_messages);
