//! See `roomcast_fuzz::handshake`.

#![cfg_attr(fuzzing, no_main)]

roomcast_fuzz::fuzzer!(handshake);
