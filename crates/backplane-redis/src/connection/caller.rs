//! Connection for commands whose replies are awaited.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;

use super::dial::{DialError, Dialed, Identity, dial, text_of};
use super::resp::{self, InvalidReply, Reply};
use crate::config::RedisConfig;

/// Connection for commands whose replies are awaited, one call at a time; opened with the first call.
///
/// A call that fails, is dropped or exceeds the time closes the connection. The next one first ends it at the server,
/// so that no command takes effect after the commands of a later call.
#[derive(Debug)]
pub(crate) struct Caller {
    config: Arc<RedisConfig>,
    /// Commands with which each connection starts.
    setup: Commands,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Open>,
    /// Last connection, for the next one to end it.
    previous: Option<Identity>,
}

#[derive(Debug)]
struct Open {
    dialed: Dialed,
    input: BytesMut,
}

/// Failed call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("connection failed: {0}")]
    Stream(#[from] std::io::Error),
    #[error("redis sent an {0}")]
    Invalid(#[from] InvalidReply),
    #[error("redis refused a command: {0}")]
    Refused(String),
    #[error("no answer in time")]
    Timeout,
}

/// Commands that are sent together.
#[derive(Clone, Default)]
pub(crate) struct Commands {
    out: BytesMut,
    count: usize,
}

impl Commands {
    pub(crate) fn push(&mut self, name: &str, args: &[&[u8]]) {
        resp::encode(&mut self.out, name.as_bytes(), args.iter().copied());
        self.count += 1;
    }
}

impl Caller {
    pub(crate) fn new(config: Arc<RedisConfig>, setup: Commands) -> Self {
        Self { config, setup, state: Mutex::default() }
    }

    /// Sends commands, and passes their replies to `read`, in order; an error reply of any ends the call.
    pub(crate) async fn call(
        &self,
        commands: &Commands,
        limit: Duration,
        read: impl FnMut(Reply<'_>) -> Result<(), InvalidReply> + Send,
    ) -> Result<(), CallError> {
        let call = async {
            let mut state = self.state.lock().await;
            // Taken out, so that a call that does not complete closes it.
            let mut open = match state.open.take() {
                Some(open) => open,
                None => self.open(&mut state).await?,
            };
            open.exchange(commands, self.config.max_message, read).await?;
            state.open = Some(open);
            Ok(())
        };
        tokio::time::timeout(limit, call).await.unwrap_or(Err(CallError::Timeout))
    }

    /// Reads the next message of the connection's subscription; opens it if needed.
    ///
    /// # Cancel safety
    /// No message is lost.
    pub(crate) async fn message(&self) -> Result<BytesMut, CallError> {
        let mut state = self.state.lock().await;
        if state.open.is_none() {
            let open = tokio::time::timeout(self.config.connect_timeout * 2, self.open(&mut state)).await;
            state.open = Some(open.unwrap_or(Err(CallError::Timeout))?);
        }
        let State { open, .. } = &mut *state;
        let Some(Open { dialed, input }) = open else { return Err(CallError::Timeout) };
        let failed = loop {
            match resp::parse_up_to(input, self.config.max_message) {
                Ok(None) => {}
                Ok(Some((reply, len))) => {
                    let message = match reply {
                        Reply::Array(parts) => match &parts[..] {
                            [Reply::Bulk(Some(b"message")), _, Reply::Bulk(Some(payload))] => {
                                Some(BytesMut::from(*payload))
                            }
                            _ => None,
                        },
                        _ => None,
                    };
                    input.advance(len);
                    if let Some(message) = message {
                        return Ok(message);
                    }
                    continue;
                }
                Err(error) => break error.into(),
            }
            match dialed.stream.read_buf(input).await {
                Ok(0) => break CallError::Stream(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) => break error.into(),
            }
        };
        state.open = None;
        Err(failed)
    }

    async fn open(&self, state: &mut State) -> Result<Open, CallError> {
        let dialed = dial(self.config.clone(), state.previous.take()).await?;
        state.previous.clone_from(&dialed.identity);
        let mut open = Open { dialed, input: BytesMut::new() };
        open.exchange(&self.setup, self.config.max_message, |_| Ok(())).await?;
        Ok(open)
    }
}

impl Open {
    async fn exchange(
        &mut self,
        commands: &Commands,
        max_bulk: usize,
        mut read: impl FnMut(Reply<'_>) -> Result<(), InvalidReply> + Send,
    ) -> Result<(), CallError> {
        let Self { dialed, input } = self;
        let (mut reader, mut writer) = tokio::io::split(&mut dialed.stream);
        let write = async {
            writer.write_all(&commands.out).await?;
            writer.flush().await?;
            Ok::<_, CallError>(())
        };
        // Replies are read while commands are written: neither side then waits for the other.
        let replies = async {
            let (mut left, mut refusal) = (commands.count, None);
            while left > 0 {
                let mut used = 0;
                while left > 0
                    && let Some((reply, len)) = resp::parse_up_to(&input[used..], max_bulk)?
                {
                    match reply {
                        Reply::Error(text) => refusal = refusal.or_else(|| Some(text_of(text))),
                        reply => read(reply)?,
                    }
                    used += len;
                    left -= 1;
                }
                input.advance(used);
                if left > 0 && reader.read_buf(input).await? == 0 {
                    return Err(CallError::Stream(std::io::ErrorKind::UnexpectedEof.into()));
                }
            }
            refusal.map_or(Ok(()), |text| Err(CallError::Refused(text)))
        };
        let (mut write, mut replies) = (std::pin::pin!(write), std::pin::pin!(replies));
        let mut has_written = false;
        std::future::poll_fn(|cx| {
            use std::task::Poll;
            if !has_written && let Poll::Ready(written) = write.as_mut().poll(cx) {
                written?;
                has_written = true;
            }
            replies.as_mut().poll(cx)
        })
        .await
    }
}

impl fmt::Debug for Commands {
    // Their arguments may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commands").field("count", &self.count).finish_non_exhaustive()
    }
}
