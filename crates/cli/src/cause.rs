//! Errors with their causes, as text.

use std::error::Error;

/// Returns the text of an error, followed by those of its causes.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn causes_follow_in_order() {
        let cause = io::Error::other("no room");
        let error = roomcast::ServeError::Bind { address: "127.0.0.1:3000".into(), source: cause };
        assert_eq!(with_causes(&error), "cannot listen on 127.0.0.1:3000: no room");
    }
}
