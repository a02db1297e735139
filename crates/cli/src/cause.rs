//! Formatting of errors with their causes.

use std::error::Error;

/// Formats an error followed by its chain of causes.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn appends_causes_in_order() {
        let cause = io::Error::other("no room");
        let error = roomcast::ServeError::Bind { address: "127.0.0.1:3000".into(), source: cause };
        assert_eq!(with_causes(&error), "cannot listen on 127.0.0.1:3000: no room");
    }
}
