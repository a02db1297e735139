//! Attribute macros of Roomcast, re-exported by `roomcast`.

mod debug_handler;

use proc_macro::TokenStream;

/// Checks a handler function part by part, so that a compile error names the invalid part.
///
/// Without it, the error of `io.on("say", say)` says that `say` is not a handler, and lists the rules. With it, the
/// error points at the parameter, the return type or the `.await` that breaks one. It changes nothing else, and leaves
/// no code in the program.
///
/// Applies to functions that are not generic and take no `self`, outside of `impl` blocks. Closures cannot have
/// attributes: move the body into a function to have it checked.
#[proc_macro_attribute]
pub fn debug_handler(attributes: TokenStream, item: TokenStream) -> TokenStream {
    debug_handler::expand(attributes.into(), item.into()).into()
}
