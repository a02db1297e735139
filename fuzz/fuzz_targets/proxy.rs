//! See `roomcast_fuzz::proxy`.

#![cfg_attr(fuzzing, no_main)]

roomcast_fuzz::fuzzer!(proxy);
