//! Problems found by a check.

use std::fmt;

/// Descriptions of all problems of a check.
#[derive(Debug)]
pub(crate) struct Problems(pub(crate) Vec<String>);

/// An error that ends a check is its only problem.
impl<E: fmt::Display> From<E> for Problems {
    fn from(error: E) -> Self {
        // mdBook's errors print their causes in the alternate form only.
        Self(vec![format!("{error:#}")])
    }
}
