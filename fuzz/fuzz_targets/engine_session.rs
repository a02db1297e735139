//! See `roomcast_fuzz::engine_session`.

#![cfg_attr(fuzzing, no_main)]

roomcast_fuzz::fuzzer!(engine_session);
