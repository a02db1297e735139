//! See `roomcast_fuzz::requests`.

#![cfg_attr(fuzzing, no_main)]

roomcast_fuzz::fuzzer!(requests);
