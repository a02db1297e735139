//! Message compression with permessage-deflate (RFC 7692).
//!
//! By default no context is kept between messages, so a broadcast is compressed once for all clients with the same
//! window, and an idle connection owns no compression memory. Received messages are inflated as they arrive, and the
//! size limit counts the inflated bytes.

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

/// The bytes that end each compressed message, omitted on the wire (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
