//! See `roomcast_fuzz::plain_session`.

#![cfg_attr(fuzzing, no_main)]

roomcast_fuzz::fuzzer!(plain_session);
