//! Common interface of the classic adapter.

use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{Args, Event, Membership};

use super::ClassicNamespace;
use super::action::{Action, Asker, PublishRefused, Query, QueryRefused, RequestNumber};
use super::adapter::{AdapterMetrics, AdapterNamespace};
use crate::{EncodeError, Flags, Recipients, Response};

impl AdapterNamespace for ClassicNamespace {
    fn uid(&self) -> &ByteString {
        self.uid()
    }

    fn counted_channel(&self) -> &ByteString {
        self.channels().request()
    }

    fn metrics(&self) -> AdapterMetrics {
        self.metrics()
    }

    fn pending_requests(&self) -> usize {
        self.pending_requests()
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.poll_action()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.handle_timeout(now);
    }

    fn handle_message(
        &mut self,
        channel: &str,
        payload: &Bytes,
        now: Instant,
        has_room: &dyn Fn(&str) -> bool,
    ) {
        self.handle_message(channel, payload, now, has_room);
    }

    fn broadcast(
        &mut self,
        recipients: &Recipients,
        flags: &Flags,
        event: &Event,
        _: Instant,
    ) -> Result<(), PublishRefused> {
        Ok(self.broadcast(recipients, flags, event)?)
    }

    fn update(
        &mut self,
        recipients: Recipients,
        change: Membership,
        _: Instant,
    ) -> Result<(), PublishRefused> {
        self.update(recipients, change);
        Ok(())
    }

    fn disconnect(&mut self, recipients: Recipients, close: bool, _: Instant) -> Result<(), PublishRefused> {
        self.disconnect(recipients, close);
        Ok(())
    }

    fn server_side_emit(&mut self, name: &ByteString, args: &Args) -> Result<(), EncodeError> {
        self.server_side_emit(name, args)
    }

    fn begin(
        &mut self,
        query: Query,
        timeout: Duration,
        now: Instant,
    ) -> Result<RequestNumber, QueryRefused> {
        self.begin(query, timeout, now)
    }

    fn handle_node_count(&mut self, request: RequestNumber, subscribers: Option<u64>, now: Instant) {
        self.handle_node_count(request, subscribers, now);
    }

    fn cancel(&mut self, request: RequestNumber) {
        self.cancel(request);
    }

    fn answer(&mut self, asker: &Asker, response: &Response) -> Result<(), EncodeError> {
        self.answer(asker, response)
    }

    fn close(&mut self, now: Instant) {
        self.close(now);
    }
}
