//! Application hooks for requests

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

use http::request::Parts;
use http::{HeaderMap, Response};
use roomcast_core::{Namespace, ResponseBody, Sid, SocketId};
use serde_json::Value;

use crate::host::metrics::{Metrics, count};
use crate::util::log_limit::log_limited;
use crate::web::engine_error::Refusal;
use crate::web::handshake::Handshake;

/// Request refused by the rules of Engine.IO.
#[derive(Debug)]
#[non_exhaustive]
pub struct RefusedRequest<'a> {
    /// Method, URI and headers; the query may contain a session id, which is secret
    pub request: &'a Parts,
    /// Engine.IO's number: 0 unknown transport, 1 unknown session, 2 bad method, 3 bad request, 4 forbidden, 5
    /// unsupported version
    pub code: u8,
    /// Message sent to the client
    pub message: &'a str,
    /// Details as in Node's server: `{"transport": "carrier pigeon"}`, `{"name": "TRANSPORT_MISMATCH", …}`
    pub context: Value,
}

/// Configured hooks; unset hooks cost nothing.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) allow_request: Option<Box<AllowRequest>>,
    pub(crate) generate_id: Option<Box<GenerateId>>,
    pub(crate) generate_socket_id: Option<Box<GenerateSocketId>>,
    pub(crate) initial_headers: Option<Box<ChangeHeaders>>,
    pub(crate) headers: Option<Box<ChangeHeaders>>,
    pub(crate) connection_error: Option<Box<TellOfRefusal>>,
}

type HookFuture<T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send>>;
pub(crate) type AllowRequest = dyn Fn(Handshake) -> HookFuture<()> + Send + Sync;
pub(crate) type GenerateId = dyn Fn(Handshake) -> HookFuture<String> + Send + Sync;
pub(crate) type GenerateSocketId = dyn Fn(&Handshake, &Namespace) -> SocketId + Send + Sync;
pub(crate) type ChangeHeaders = dyn Fn(&mut HeaderMap, &Parts) + Send + Sync;
pub(crate) type TellOfRefusal = dyn for<'a> Fn(&RefusedRequest<'a>) + Send + Sync;

impl Hooks {
    /// Returns whether a new session must await a hook.
    pub(crate) fn ask(&self) -> bool {
        self.allow_request.is_some() || self.generate_id.is_some()
    }

    /// Generates a secret session id by the application's hook, if set.
    ///
    /// # Errors
    /// Returns an error if it fails or the id is not valid in a URL.
    pub(crate) async fn sid(&self, request: &Handshake) -> Result<Option<Sid>, Cow<'static, str>> {
        let Some(generate) = &self.generate_id else { return Ok(None) };
        let id = generate(request.clone()).await?;
        let fits = (1..=MAX_ID).contains(&id.len()) && id.bytes().all(is_unreserved);
        if fits { Ok(Some(Sid::new(id))) } else { Err("it does not fit into a URL".into()) }
    }

    /// Generates a public socket id by the application's hook, if set.
    ///
    /// # Errors
    /// Returns an error if the hook panics.
    pub(crate) fn socket_id(
        &self,
        handshake: &Handshake,
        namespace: &Namespace,
    ) -> Result<Option<SocketId>, ()> {
        let Some(generate) = &self.generate_socket_id else { return Ok(None) };
        // Runs in a session's task, which must survive a panic.
        let id = catch_unwind(AssertUnwindSafe(|| generate(handshake, namespace)));
        id.map(Some)
            .map_err(|_| log_limited!(ERROR, (), %namespace, hook = "generate_socket_id", "hook panicked"))
    }

    /// Returns whether a hook changes response headers.
    pub(crate) fn change_headers(&self) -> bool {
        self.initial_headers.is_some() || self.headers.is_some()
    }

    pub(crate) fn apply_headers(&self, headers: &mut HeaderMap, request: &Parts, initial: bool) {
        let first = self.initial_headers.as_ref().filter(|_| initial);
        first.into_iter().chain(&self.headers).for_each(|change| change(headers, request));
    }

    /// Returns the response to a refused request, and calls the hook, if set.
    pub(crate) fn refuse(
        &self,
        metrics: &Metrics,
        refusal: &Refusal,
        request: &Parts,
        upgrades: bool,
    ) -> Response<ResponseBody> {
        let status = refusal.status(upgrades).as_u16();
        tracing::debug!(code = refusal.code(), status, name = refusal.name(), "request refused");
        if let Some(tell) = &self.connection_error {
            let (code, message, context) = (refusal.code(), refusal.message(), refusal.context(request));
            let refused = RefusedRequest { request, code, message, context };
            // Also runs in a session's task, which must survive a panic.
            if catch_unwind(AssertUnwindSafe(|| tell(&refused))).is_err() {
                count::handlers_panicked(metrics);
                log_limited!(ERROR, (), hook = "connection_error", "hook panicked");
            }
        }
        refusal.response(upgrades)
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}

/// Maximum length of an id
const MAX_ID: usize = 256;

/// Unreserved characters, unescaped in a query and a cookie (RFC 3986 section 2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)
}
