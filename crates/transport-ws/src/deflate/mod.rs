//! permessage-deflate (RFC 7692): compressed messages
//!
//! By default no context is kept from one message to the next, so a broadcast is compressed once for all clients
//! that agreed on the same window, and an idle connection owns no memory for it. What a client sends is inflated as
//! it arrives, and its limit counts what comes out.

mod deflater;
mod inflated;
mod inflater;
mod offer;
mod settings;
mod wire;

pub use settings::{Compressed, Compression};

pub(crate) use deflater::Deflater;
pub(crate) use inflated::Inflated;
pub(crate) use inflater::{Inflater, Inflating};
pub(crate) use offer::{Agreement, negotiate};
pub(crate) use settings::{Reservation, Totals};
pub(crate) use wire::{Context, DeflateWire};

/// What ends each compressed message, and is left out on the wire (RFC 7692 section 7.2.1)
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
