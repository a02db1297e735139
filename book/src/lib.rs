//! Code of the book's pages. The Rust blocks are compiled and run by the documentation tests of this crate.

pub mod code;
pub mod program;

/// Declares a module for each page, whose documentation tests are the Rust blocks of the page.
macro_rules! pages {
    ($($page:ident $file:literal)*) => {
        $(
            #[cfg(doctest)]
            #[doc = include_str!(concat!("../../docs/", $file))]
            mod $page {}
        )*

        /// Pages with tests, as paths relative to `docs`.
        pub const PAGES: &[&str] = &[$($file),*];
    };
}

pages! {
    application_structure "application-structure.md"
    authentication "authentication.md"
    backpressure "backpressure.md"
    composing "composing.md"
    cors "cors.md"
    delivery "delivery.md"
    emit_cheatsheet "emit-cheatsheet.md"
    how_it_works "how-it-works.md"
    logging "logging.md"
    metrics "metrics.md"
    migration "migration.md"
    migration_ws "migration-ws.md"
    namespaces "namespaces.md"
    operations "operations.md"
    production "production.md"
    recovery "recovery.md"
    reverse_proxies "reverse-proxies.md"
    rooms "rooms.md"
    scaling "scaling.md"
    testing "testing.md"
    transports "transports.md"
    troubleshooting "troubleshooting.md"
    tutorial "tutorial.md"
    writing_a_router "writing-a-router.md"
    writing_a_transport "writing-a-transport.md"
}
