//! Compile-time checks emitted next to a handler.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Error, FnArg, ItemFn, PatType, ReturnType, Type, TypeReference};

/// Maximum number of handler parameters, excluding a borrowed socket.
const MAX_PARAMETERS: usize = 8;

pub(crate) fn expand(attributes: TokenStream, item: TokenStream) -> TokenStream {
    let function: ItemFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            let error = Error::new(error.span(), "`#[debug_handler]` can only be applied to functions")
                .into_compile_error();
            return quote!(#item #error);
        }
    };
    let checks = if attributes.is_empty() {
        checks(&function).unwrap_or_else(Error::into_compile_error)
    } else {
        Error::new_spanned(&attributes, "`#[debug_handler]` takes no arguments").into_compile_error()
    };
    quote!(#function #checks)
}

fn checks(function: &ItemFn) -> Result<TokenStream, Error> {
    let signature = &function.sig;
    if !signature.generics.params.is_empty() {
        let text = "`#[debug_handler]` does not support generic functions; use concrete types";
        return Err(Error::new_spanned(&signature.generics, text));
    }
    let is_async = signature.asyncness.is_some();
    let mut parameters = Vec::new();
    for input in &signature.inputs {
        match input {
            FnArg::Typed(parameter) => parameters.push(parameter),
            FnArg::Receiver(receiver) => {
                let text = "a handler has no `self`; register a closure that calls the method";
                return Err(Error::new_spanned(receiver, text));
            }
        }
    }
    let borrows = !is_async && parameters.first().is_some_and(|first| is_borrowed_socket(&first.ty));
    let most = MAX_PARAMETERS + usize::from(borrows);
    if let Some(beyond) = parameters.get(most) {
        let text = "a handler has eight parameters at most; take several arguments as one struct, or all of them as \
                    `Args`";
        return Err(Error::new_spanned(beyond, text));
    }
    let owned = &parameters[usize::from(borrows)..];
    check_borrows(owned, is_async)?;
    let checked = owned.iter().map(|parameter| check_parameter(parameter));
    let returned = check_return(function, is_async);
    let future = check_future(function, &parameters, is_async);
    Ok(quote! {
        #[allow(warnings, clippy::all, clippy::pedantic)]
        const _: () = {
            fn check() {
                #(#checked)*
                #returned
            }
            #future
        };
    })
}

fn check_borrows(parameters: &[&PatType], is_async: bool) -> Result<(), Error> {
    let mut all: Option<Error> = None;
    let mut add = |error| match &mut all {
        Some(all) => all.combine(error),
        none => *none = Some(error),
    };
    for parameter in parameters {
        if is_borrowed_socket(&parameter.ty) {
            let text = if is_async {
                "an async handler takes its socket by value, as `Socket`: the future outlives the call"
            } else {
                "only the first parameter can borrow the socket, as `&Socket`"
            };
            add(Error::new_spanned(&parameter.ty, text));
        } else if let Some(reference) = first_reference(&parameter.ty) {
            let text = match owned_form(&reference) {
                Some(owned) => format!("a handler cannot borrow from an event; take `{owned}`"),
                None => "a handler cannot borrow from an event; take an owned type".to_owned(),
            };
            add(Error::new_spanned(&reference, text));
        }
    }
    all.map_or(Ok(()), Err)
}

/// Returns the owned counterpart of a well-known borrowed type.
fn owned_form(reference: &TypeReference) -> Option<String> {
    match &*reference.elem {
        Type::Path(path) if path.path.is_ident("str") => Some("String".to_owned()),
        Type::Path(path) => Some(path.to_token_stream().to_string()),
        Type::Slice(slice) => Some(match &*slice.elem {
            Type::Path(path) if path.path.is_ident("u8") => "Bytes".to_owned(),
            _ => "Vec<_>".to_owned(),
        }),
        _ => None,
    }
}

fn is_borrowed_socket(ty: &Type) -> bool {
    matches!(ty, Type::Reference(reference) if last_name(&reference.elem).is_some_and(|name| name == "Socket"))
}

fn last_name(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        _ => None,
    }
}

/// Returns the first reference in a type that does not outlive the call.
fn first_reference(ty: &Type) -> Option<TypeReference> {
    struct Finder(Option<TypeReference>);

    impl<'ast> Visit<'ast> for Finder {
        fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
            self.0.get_or_insert_with(|| reference.clone());
        }

        fn visit_type_bare_fn(&mut self, _: &'ast syn::TypeBareFn) {}

        fn visit_parenthesized_generic_arguments(&mut self, _: &'ast syn::ParenthesizedGenericArguments) {}

        fn visit_type(&mut self, ty: &'ast Type) {
            visit::visit_type(self, ty);
        }
    }

    let mut finder = Finder(None);
    finder.visit_type(ty);
    finder.0
}

/// Matches by the name as written, because axum and others have extractors of the same names.
fn check_parameter(parameter: &PatType) -> TokenStream {
    let ty = &parameter.ty;
    match last_name(ty).as_deref() {
        Some("State") => quote_spanned!(ty.span()=> ::roomcast::handler_check::state::<#ty>();),
        Some("Extension") => quote_spanned!(ty.span()=> ::roomcast::handler_check::extension::<#ty>();),
        _ => quote_spanned!(ty.span()=> ::roomcast::handler_check::parameter::<#ty, _>();),
    }
}

fn check_return(function: &ItemFn, is_async: bool) -> Option<TokenStream> {
    let ReturnType::Type(_, ty) = &function.sig.output else { return None };
    if matches!(**ty, Type::Never(_)) {
        return None;
    }
    if is_async {
        return Some(quote_spanned!(ty.span()=> ::roomcast::handler_check::returned::<#ty>();));
    }
    // It may also be a future; the output of `impl Future` is checked with the future itself.
    let is_hidden = matches!(**ty, Type::ImplTrait(_));
    (!is_hidden).then(|| quote_spanned!(ty.span()=> ::roomcast::handler_check::returned_at_once::<#ty, _>();))
}

fn check_future(function: &ItemFn, parameters: &[&PatType], is_async: bool) -> Option<TokenStream> {
    if !is_async {
        return None;
    }
    let name = &function.sig.ident;
    let types = parameters.iter().map(|parameter| &parameter.ty);
    let names: Vec<_> = (0..parameters.len()).map(|at| format_ident!("parameter{at}")).collect();
    let span = Span::call_site().located_at(name.span());
    let call = quote_spanned!(span=> ::roomcast::handler_check::future(#name(#(#names),*)));
    Some(quote!(fn check_future(#(#names: #types),*) { #call; }))
}
