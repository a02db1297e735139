//! See `roomcast_fuzz::plain_json_session`.

#![cfg_attr(fuzzing, no_main)]

roomcast_fuzz::fuzzer!(plain_json_session);
