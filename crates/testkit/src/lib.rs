//! In-memory transport and router, virtual time, and a conformance suite for each trait
