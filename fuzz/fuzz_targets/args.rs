//! See `roomcast_fuzz::args`.

#![cfg_attr(fuzzing, no_main)]

roomcast_fuzz::fuzzer!(args);
