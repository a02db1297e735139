//! Dynamic namespaces: may a client create one?

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};
use std::time::Instant;

use bytestring::ByteString;

use super::errors::Role;
use super::pending::PendingNamespace;
use super::running::{Continuation, Running};
use super::state::Driver;
use crate::app::error::{invalid_namespace, too_many_namespaces};
use crate::app::model::parents::Verdict;
use crate::host::limit::{Limit, limit_exceeded};
use crate::host::metrics::count;
use crate::util::clock;
use crate::util::log_limit::log_limited;

impl Driver {
    /// Asks the remaining parents up to the first that accepts or is pending.
    pub(super) fn ask_parents(&mut self, mut opening: PendingNamespace, cx: &mut Context<'_>, now: Instant) {
        // The parser accepts more names than an application could register.
        let name = opening.namespace.as_str();
        let is_name = name.starts_with('/') && !name.contains(',');
        while let Some(parent) = opening.rest.next().filter(|_| is_name) {
            let PendingNamespace { namespace, auth, .. } = &opening;
            let judged =
                catch_unwind(AssertUnwindSafe(|| match parent.judge(namespace, auth, &self.shared) {
                    Verdict::Known(may) => Ok(may),
                    Verdict::Asked(mut future) => match future.as_mut().poll(cx) {
                        Poll::Ready(outcome) => Ok(outcome.is_ok()),
                        Poll::Pending => Err(future),
                    },
                }));
            match judged {
                Ok(Ok(false)) => {}
                Ok(Ok(true)) => {
                    opening.asked = Some(parent);
                    return self.open(opening, cx, now);
                }
                Ok(Err(future)) => {
                    let name = ByteString::from(opening.namespace.as_str());
                    opening.asked = Some(parent);
                    let deadline = clock::after(now, self.shared.io.config().timeouts.connect_timeout);
                    let mut running =
                        Running::new(future, None, name, Role::ConnectMiddleware).until(deadline);
                    running.then = Continuation::Open(Box::new(opening));
                    return self.handlers_running.add(running);
                }
                Err(_) => {
                    count::handlers_panicked(self.shared.io.metrics());
                    log_limited!(ERROR, (), %namespace, "dynamic-namespace predicate panicked");
                }
            }
        }
        self.reject_connect(opening.namespace, invalid_namespace(), cx, now);
    }

    /// Creates the namespace and connects the client to it.
    pub(super) fn open(&mut self, opening: PendingNamespace, cx: &mut Context<'_>, now: Instant) {
        let PendingNamespace { namespace, auth, asked: Some(parent), .. } = opening else { return };
        // Runs the application's router factory and observers of the parent's rooms.
        let entered = catch_unwind(AssertUnwindSafe(|| self.shared.io.enter_new(&namespace, &parent)));
        match entered {
            Ok(Some(state)) => self.begin_connect(state, &auth, cx, now),
            Err(_) => {
                count::handlers_panicked(self.shared.io.metrics());
                log_limited!(ERROR, (), %namespace, "router factory or room hook panicked: connect refused");
                self.reject_connect(namespace, invalid_namespace(), cx, now);
            }
            Ok(None) => {
                let address = self.shared.handshake.address_field();
                limit_exceeded!(
                    self.shared.io,
                    Limit::Namespaces,
                    address,
                    "connect refused: too many child namespaces"
                );
                self.reject_connect(namespace, too_many_namespaces(), cx, now);
            }
        }
    }
}
