//! Serialization of typed events as arguments.

use roomcast_core::{Args, ArgsError, IntoArgs};
use serde::Serialize;

use super::shape::{Shape, written};

/// Writes the arguments of an [`Event`](super::Event).
pub(super) fn one<E: Serialize>(event: &E) -> Result<Args, ArgsError> {
    let whole = (event,).into_args()?;
    Ok(match written(event) {
        (Shape::List, None) => inside(&whole, 1),
        (Shape::Nothing, None) => Args::empty(),
        // An enum used as an `Event` is written like any other value.
        _ => whole,
    })
}

/// Writes the name and the arguments of a variant of an [`EventSet`](super::EventSet).
pub(super) fn variant<E: Serialize>(event: &E) -> Result<(&'static str, Args), ArgsError> {
    let (shape, Some(variant)) = written(event) else {
        let reason = "an event set must be an enum that serde writes with the name of the variant".into();
        return Err(ArgsError::Unserializable { position: 1, reason });
    };
    let args = match shape {
        Shape::Nothing => Args::empty(),
        // serde_json writes `{"variant":…}`, with the list in brackets.
        Shape::Whole | Shape::List => {
            let whole = (event,).into_args()?;
            let content = Args::from_validated(
                whole.list().slice_ref(&whole.json()[1 + quoted_len(variant)? + 1..whole.json().len() - 1]),
                whole.attachments().to_vec(),
            );
            if shape == Shape::List { inside(&content, 1) } else { content }
        }
    };
    Ok((variant, args))
}

/// Strips `ends` bytes at each end.
fn inside(args: &Args, ends: usize) -> Args {
    let json = &args.json()[ends..args.json().len() - ends];
    Args::from_validated(args.list().slice_ref(json), args.attachments().to_vec())
}

/// Returns the length of a name as a JSON string, in bytes.
fn quoted_len(name: &str) -> Result<usize, ArgsError> {
    Ok((name,).into_args()?.json().len())
}
