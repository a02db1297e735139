//! Query parameters of Engine.IO

use roomcast_engine::Version;

use crate::web::handshake::query_pairs;

/// Query parameters of Engine.IO; a duplicate is invalid, since two readers could disagree about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct EngineQuery<'a> {
    pub(crate) transport: Option<&'a str>,
    pub(crate) sid: Option<&'a str>,
    version: Option<&'a str>,
}

/// Marks a duplicate parameter; no transport, id or revision has this value
const AMBIGUOUS: &str = "&";

impl<'a> EngineQuery<'a> {
    pub(crate) fn parse(query: &'a str) -> Self {
        let mut parsed = Self::default();
        for (name, value) in query_pairs(query) {
            let slot = match name {
                "transport" => &mut parsed.transport,
                "sid" => &mut parsed.sid,
                "EIO" => &mut parsed.version,
                _ => continue,
            };
            *slot = Some(if slot.is_some() { AMBIGUOUS } else { value });
        }
        // As on Node: an empty value means no session yet.
        parsed.sid = parsed.sid.filter(|sid| !sid.is_empty());
        parsed
    }

    /// Returns the protocol revision as sent.
    pub(crate) fn version(&self) -> Option<&'a str> {
        self.version
    }

    /// Returns whether the server supports the client's protocol revision.
    pub(crate) fn is_supported(&self) -> bool {
        self.version.is_some_and(|version| Version::from_query(version).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_parameters_in_any_order() {
        let query = EngineQuery::parse("t=abc&sid=x_-1&EIO=4&b64=1&transport=polling");
        assert_eq!((query.transport, query.sid), (Some("polling"), Some("x_-1")));
        assert!(query.is_supported());
    }

    #[test]
    fn treats_empty_session_id_as_missing() {
        for query in ["EIO=4&transport=polling&sid=", "sid=&transport=polling&EIO=4", "sid"] {
            assert_eq!(EngineQuery::parse(query).sid, None, "{query}");
        }
        for query in ["sid=&sid=x", "sid=x&sid=", "sid=&sid="] {
            assert_eq!(EngineQuery::parse(query).sid, Some(AMBIGUOUS), "{query}");
        }
    }

    #[test]
    fn cve_2026_102599_rejects_unsupported_revision() {
        for query in ["EIO=3", "", "EIO=", "EIO", "EIO=4&EIO=3", "EIO=4&EIO=4", "eio=4", "EIO=04"] {
            assert!(!EngineQuery::parse(query).is_supported(), "{query}");
        }
    }

    #[test]
    fn cve_2023_31125_rejects_duplicate_transport() {
        assert_eq!(EngineQuery::parse("transport=polling&transport=websocket").transport, Some(AMBIGUOUS));
    }
}
