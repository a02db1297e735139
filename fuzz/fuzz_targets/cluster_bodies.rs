//! See `roomcast_fuzz::cluster_bodies`.

#![cfg_attr(fuzzing, no_main)]

roomcast_fuzz::fuzzer!(cluster_bodies);
