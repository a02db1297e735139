//! Parts of the answer to a broadcast with acknowledgements.

use bytes::Bytes;
use roomcast_cluster::DecodeError;
use roomcast_core::{Args, SocketId};

use super::error::BodyError;
use super::fields::{FLAGS, Fields, MAX_FIELD, NUMBER, SOCKET, UNANSWERED, args_len, begin, write_args};

/// Part of the answer to a broadcast with acknowledgements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AckPart {
    /// Number of recipients, first.
    Recipients(usize),
    /// Acknowledgement of a recipient.
    Answered { socket: Option<SocketId>, args: Args },
    /// A recipient will not answer.
    Unanswered { socket: Option<SocketId> },
}

impl AckPart {
    pub(crate) fn encode(&self) -> Bytes {
        let (socket, args) = match self {
            Self::Recipients(number) => {
                let mut out = begin(MAX_FIELD);
                out.number(NUMBER, *number as u64);
                return out.into_bytes();
            }
            Self::Answered { socket, args } => (socket, Some(args)),
            Self::Unanswered { socket } => (socket, None),
        };
        let id = socket.as_ref().map_or("", SocketId::as_str);
        let mut out = begin(id.len() + 2 * MAX_FIELD + args.map_or(0, args_len));
        if socket.is_some() {
            out.bytes(SOCKET, id.as_bytes());
        }
        match args {
            Some(args) => write_args(&mut out, args),
            None => out.number(FLAGS, UNANSWERED),
        }
        out.into_bytes()
    }

    pub(crate) fn decode(body: Bytes) -> Result<Self, BodyError> {
        let mut fields = Fields::decode(body)?;
        if let Some(number) = fields.number {
            let number = u32::try_from(number).map_err(|_| DecodeError::Overflow)?;
            return Ok(Self::Recipients(number as usize));
        }
        let socket = fields.socket();
        if fields.flags & UNANSWERED != 0 {
            return Ok(Self::Unanswered { socket });
        }
        Ok(Self::Answered { socket, args: fields.args()? })
    }
}
