//! See `roomcast_fuzz::msgpack_packets`.

#![cfg_attr(fuzzing, no_main)]

roomcast_fuzz::fuzzer!(msgpack_packets);
