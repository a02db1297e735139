//! See `roomcast_fuzz::ws_inflate`.

#![cfg_attr(fuzzing, no_main)]

roomcast_fuzz::fuzzer!(ws_inflate);
