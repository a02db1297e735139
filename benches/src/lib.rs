//! Benchmarks: criterion in process and over loopback, and a comparison with other servers
//!
//! The load generator and the limit are in `roomcast-bench`; [`compare`] runs many servers under the same load in
//! turn, and reports each as a ratio to the limit.

#![allow(
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "only the programs of this repository use it"
)]

pub mod compare;
