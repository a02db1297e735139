//! Attribute macros of Roomcast, re-exported by `roomcast`.

mod debug_handler;

use proc_macro::TokenStream;

/// Checks a handler function part by part, so that a compile error names the invalid part.
///
/// Without it, the error of `io.on("say", say)` says that `say` is not a handler, and lists the rules. With it, the
/// error points at the invalid parameter, return type or `.await`. It makes no other change and generates no code in the
/// program.
///
/// Applies to functions that are not generic and take no `self`, outside of `impl` blocks. Closures cannot have
/// attributes: move the body into a function to check it.
#[proc_macro_attribute]
pub fn debug_handler(attributes: TokenStream, item: TokenStream) -> TokenStream {
    debug_handler::expand(attributes.into(), item.into()).into()
}
