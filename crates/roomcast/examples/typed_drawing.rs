//! A drawing that several people work on, with its events written down once: `typed_drawing [PORT]`.
//!
//! Each drawing is a namespace, `/drawings/NAME`, which exists while it has members. The schema is the module
//! [`schema`]: change an event there, and what does not agree with it no longer compiles.

use std::error::Error;

use roomcast::handler::serial;
use roomcast::{Ack, Config, EmitError, Io, Server, Socket};

use crate::schema::{Clear, Said, Say, Stroke};

/// Events between clients and server.
mod schema {
    use roomcast::typed::{Event, EventSet, NoAnswer};
    use serde::{Deserialize, Serialize};

    /// Events relayed unchanged to all other clients.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(crate) enum Stroke {
        /// `penDown(x, y)`.
        PenDown(f64, f64),
        /// `penMoved(x, y)`.
        PenMoved(f64, f64),
        /// `penUp()`.
        PenUp,
        /// `brush({ width, colour })`.
        Brush { width: u32, colour: String },
    }

    impl EventSet for Stroke {}

    /// `say(text)`, acknowledged with the number of recipients.
    #[derive(Debug, Serialize, Deserialize)]
    pub(crate) struct Say(pub(crate) String);

    impl Event for Say {
        const NAME: &'static str = "say";
        type Answer = usize;
    }

    /// `said({ by, text })`.
    #[derive(Debug, Serialize, Deserialize)]
    pub(crate) struct Said {
        pub(crate) by: String,
        pub(crate) text: String,
    }

    impl Event for Said {
        const NAME: &'static str = "said";
        type Answer = NoAnswer;
    }

    /// `clear?()`, asks all other clients, which acknowledge with yes or no.
    #[derive(Debug, Serialize, Deserialize)]
    pub(crate) struct Clear;

    impl Event for Clear {
        const NAME: &'static str = "clear?";
        type Answer = bool;
    }
}

fn application() -> Result<Io, Box<dyn Error>> {
    let config = Config::new().cleanup_empty_child_namespaces(true);
    let io = Io::builder().config(config).build();
    let drawings = io.of_pattern(r"^/drawings/[\w-]{1,40}$")?;
    drawings
        .on_event(async |socket: Socket, stroke: Stroke| socket.broadcast().emit_event(&stroke).map(drop));
    drawings.on_event(async |socket: Socket, Say(text): Say| {
        let told = socket.broadcast().emit_event(&Said { by: socket.id().to_string(), text })?;
        Ok::<_, EmitError>(told.queued)
    });
    // Beside the schema, loose names stay possible. One vote at a time, and nothing else waits for it.
    drawings.on("clear", serial(clear));
    Ok(io)
}

/// Clears the drawing unless another client objects.
async fn clear(socket: Socket, ack: Ack) -> Result<(), EmitError> {
    let votes = socket.broadcast().emit_event_with_ack(&Clear).await?;
    let agreed = votes.answers.iter().all(|(_, agrees)| *agrees) && votes.mismatched.is_empty();
    if agreed {
        socket.namespace().emit("cleared", ())?;
    }
    ack.send(agreed).map(drop)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let port = std::env::args().nth(1).map_or(Ok(3000), |port| port.parse())?;
    let server = Server::new(application()?).bind(("127.0.0.1", port))?;
    println!("listening on http://{}", server.address());
    server.serve().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use roomcast_testkit::TestClient;

    use super::*;

    async fn joined(io: &Io, drawing: &str) -> TestClient {
        TestClient::builder(io).namespace(drawing).connect().await
    }

    #[tokio::test]
    async fn sends_strokes_to_same_drawing() {
        let io = application().expect("a pattern");
        let (mut anna, mut ben) = (joined(&io, "/drawings/cat").await, joined(&io, "/drawings/cat").await);
        let mut other = joined(&io, "/drawings/dog").await;
        anna.emit("penDown", (1.5, 2.0)).await;
        anna.emit("brush", serde_json::json!({ "width": 3, "colour": "red" })).await;
        anna.emit("penUp", ()).await;
        let down = ben.expect_event("penDown").await;
        assert_eq!(down.args().parse::<(f64, f64)>().expect("two numbers"), (1.5, 2.0));
        assert_eq!(ben.expect::<serde_json::Value>("brush").await["colour"], "red");
        ben.expect_event("penUp").await;
        assert_eq!(anna.emit_with_ack::<usize>("say", "a cat").await, 1);
        let said: Said = ben.expect("said").await;
        assert_eq!((said.by.as_str(), said.text.as_str()), (anna.id(), "a cat"));
        other.expect_nothing().await;
    }

    #[tokio::test]
    async fn clears_drawing_without_objection() {
        let io = application().expect("a pattern");
        let (mut anna, mut ben) = (joined(&io, "/drawings/cat").await, joined(&io, "/drawings/cat").await);
        for agrees in [true, false] {
            let asks = async { anna.emit_with_ack::<bool>("clear", ()).await };
            let answers = async {
                let question = ben.expect_event("clear?").await;
                ben.answer(&question, agrees).await;
            };
            let (cleared, ()) = tokio::join!(asks, answers);
            assert_eq!(cleared, agrees);
            if agrees {
                anna.expect_event("cleared").await;
                ben.expect_event("cleared").await;
            }
        }
    }
}
