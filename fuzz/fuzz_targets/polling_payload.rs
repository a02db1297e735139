//! See `roomcast_fuzz::polling_payload`.

#![cfg_attr(fuzzing, no_main)]

roomcast_fuzz::fuzzer!(polling_payload);
