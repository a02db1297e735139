//! Follows the tutorial in an empty folder, as a reader does.
//!
//! The project consists of the blocks of the page alone. After each section it is built without warnings, started, and
//! used by clients. Three things differ from a reader's project: it listens on a free port, and it uses the profiles
//! and the lock file of the repository, so that compiled dependencies are shared.

use std::env;
use std::fs;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use roomcast_book::code::{self, Block};
use roomcast_book::program::Program;
use roomcast_testkit::socket::dial::Dial;
use roomcast_testkit::socket::ws::{Message, Ws};
use serde_json::{Value, json};

use crate::error::Problems;

/// Follows the page; returns a summary.
pub(crate) fn follow(root: &Path, target: &Path) -> Result<String, Problems> {
    let page = fs::read_to_string(root.join("docs/tutorial.md"))?;
    let blocks = code::blocks(&page);
    let root = root.canonicalize()?;
    // The same folder in each run, so that the crates of the repository are compiled once.
    let id = BuildHasherDefault::<DefaultHasher>::default().hash_one(&root);
    let folder = env::temp_dir().join(format!("roomcast-tutorial-{id:016x}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    std::os::unix::fs::symlink(&root, folder.join("roomcast"))?;
    let mut project = Project {
        chat: folder.join("chat"),
        folder: folder.clone(),
        root,
        target: std::path::absolute(target)?,
        program: Program::default(),
    };
    let done = project.follow(&blocks);
    // The link is removed, not the repository.
    let _ = fs::remove_dir_all(&folder);
    done.map_err(|problem| Problems(vec![format!("docs/tutorial.md: {problem}")]))
}

/// Project of the reader.
struct Project {
    root: PathBuf,
    /// Folder in which the reader starts.
    folder: PathBuf,
    /// Folder that the first command creates.
    chat: PathBuf,
    target: PathBuf,
    program: Program,
}

impl Project {
    fn follow(&mut self, blocks: &[Block]) -> Result<String, String> {
        let mut sections = Vec::new();
        for part in blocks.chunk_by(|one, other| one.section == other.section) {
            let section = &part[0].section;
            let in_section = |problem| format!("section \"{section}\": {problem}");
            for block in part {
                self.apply(block).map_err(in_section)?;
            }
            if part.iter().any(|block| block.language() == "rust") {
                self.exercise(section).map_err(in_section)?;
                sections.push(section.as_str());
            }
        }
        Ok(format!("{} sections built, started and used: {}", sections.len(), sections.join(", ")))
    }

    /// Does what the page says about a block.
    fn apply(&mut self, block: &Block) -> Result<(), String> {
        match block.language() {
            "sh" => {
                let folder = if self.chat.exists() { &self.chat } else { &self.folder };
                let mut bash = Command::new("bash");
                bash.args(["-euc", &block.code]).current_dir(folder);
                run(&mut bash).map(drop)
            }
            "toml" => self.configure(&block.code),
            "html" => write(&self.chat.join("src/tutorial.html"), &block.code),
            "rust" => {
                self.program.apply(&block.code);
                let text = self.program.text().replace("127.0.0.1:3000", "127.0.0.1:0");
                write(&self.chat.join("src/main.rs"), &text)
            }
            "js" => Ok(()),
            other => Err(format!("no rule for blocks of {other}")),
        }
    }

    /// Puts a block into the manifest: the sections of dependencies at first, single lines later.
    fn configure(&self, block: &str) -> Result<(), String> {
        let path = self.chat.join("Cargo.toml");
        let manifest = read(&path)?;
        let first = block.lines().next().unwrap_or_default();
        let key = first.split(" = ").next().unwrap_or_default();
        let line = manifest.lines().find(|line| line.split(" = ").next() == Some(key));
        let line = line.ok_or_else(|| format!("no line {key} in Cargo.toml"))?;
        let mut text = manifest.replacen(&format!("{line}\n"), block, 1);
        if key == "[dependencies]" {
            let root = read(&self.root.join("Cargo.toml"))?;
            let sections = root.split("\n[").skip(1).filter(|section| section.starts_with("profile."));
            sections.for_each(|section| text.push_str(&format!("\n[{}\n", section.trim_end())));
            write(&self.chat.join("Cargo.lock"), &read(&self.root.join("Cargo.lock"))?)?;
        }
        write(&path, &text)
    }

    /// Builds and starts the program as it is after a section, and uses it.
    fn exercise(&self, section: &str) -> Result<(), String> {
        self.cargo("build")?;
        match section {
            "Answer a client" => {
                let server = self.start()?;
                let mut tab = server.client("");
                tab.say(json!(["say", "hello"]));
                tab.hears(&json!(["said", "hello"]))
            }
            "Ask for a name" => {
                let server = self.start()?;
                let mut ada = server.client("?name=Ada");
                ada.say(json!(["say", "hello"]));
                ada.hears(&json!(["said", "Ada", "hello"]))?;
                let (message, mut refused) =
                    ("choose a name of 1 to 20 bytes", Tab(server.connect("?name=")));
                refused.hears(&json!([{ "error": { "message": message } }]))?;
                match refused.0.receive() {
                    Err(end) if end.code == Some(4403) && end.reason == message => Ok(()),
                    other => Err(format!("a client without a name got {other:?}")),
                }
            }
            "Add rooms" => self.talk().map(drop),
            "Notify others of a disconnect" => {
                let (_server, mut ada, ben) = self.talk()?;
                ben.0.close();
                ada.hears(&json!(["left", "Ben"]))
            }
            "Serve the page" => {
                self.talk()?;
                let server = self.start()?;
                self.curl(&["--silent", &format!("http://{}/", server.address)])
            }
            "Test the chat" => {
                let expected = self.program.text().matches("#[tokio::test]").count();
                let output = self.cargo("test")?;
                match output.contains(&format!("test result: ok. {expected} passed")) {
                    true => Ok(()),
                    false => Err(format!("expected {expected} tests:\n{output}")),
                }
            }
            "Enable TLS" => {
                let server = self.start()?;
                let url = format!("https://localhost:{}/", server.address.port());
                self.curl(&["--silent", "--show-error", "--cacert", "cert.pem", &url])
            }
            _ => Err("no check for this section; add one to book/src/walkthrough.rs".to_owned()),
        }
    }

    /// Lets two clients talk in a room.
    fn talk(&self) -> Result<(Server, Tab, Tab), String> {
        let server = self.start()?;
        let (mut ada, mut ben) = (server.client("?name=Ada"), server.client("?name=Ben"));
        for (tab, members) in [(&mut ada, 1), (&mut ben, 2)] {
            tab.say(json!([{ "ack": 1 }, "join", "lobby"]));
            tab.hears(&json!([{ "re": 1 }, members]))?;
        }
        ada.hears(&json!(["joined", "Ben"]))?;
        ben.say(json!(["say", "lobby", "hello"]));
        ada.hears(&json!(["said", "Ben", "hello"]))?;
        ben.hears(&json!(["said", "Ben", "hello"]))?;
        Ok((server, ada, ben))
    }

    /// Runs cargo in the project; warnings are failures, except for packages of the profile that the project lacks.
    fn cargo(&self, command: &str) -> Result<String, String> {
        let mut cargo = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
        cargo
            .args([command, "--color", "never"])
            .current_dir(&self.chat)
            .env("CARGO_TARGET_DIR", &self.target);
        let output = run(&mut cargo)?;
        let warns = |line: &str| line.starts_with("warning: ") && !line.contains("profile package spec");
        if output.lines().any(warns) { Err(output) } else { Ok(output) }
    }

    fn curl(&self, arguments: &[&str]) -> Result<(), String> {
        let page = run(Command::new("curl").args(arguments).current_dir(&self.chat))?;
        if page.contains("<title>Chat</title>") { Ok(()) } else { Err(format!("not the page: {page:?}")) }
    }

    /// Starts the program and reads its address.
    fn start(&self) -> Result<Server, String> {
        let mut command = Command::new(self.target.join("debug/chat"));
        let mut child = command
            .current_dir(&self.chat)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the program: {error}"))?;
        let output = child.stdout.take();
        let mut server = Server { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        // The log follows on the same pipe, and is small enough not to fill it.
        let lines = output.map(|output| BufReader::new(output).lines()).into_iter().flatten();
        for line in lines.map_while(Result::ok) {
            if let Some(address) = line.strip_prefix("listening on ").and_then(|url| url.split("://").nth(1))
            {
                server.address = address.parse().map_err(|error| format!("{line}: {error}"))?;
                return Ok(server);
            }
        }
        Err("the program ended before it listened".to_owned())
    }
}

/// Started program; killed on drop.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn connect(&self, query: &str) -> Ws {
        Ws::open(&Dial::Tcp(self.address), &format!("/ws{query}"), Some("roomcast.json"))
    }

    /// Connects a client that is accepted.
    fn client(&self, query: &str) -> Tab {
        let mut tab = Tab(self.connect(query));
        let first = tab.next();
        assert!(
            first.as_ref().is_ok_and(|first| first[0]["sid"].is_string()),
            "expected an id, got {first:?}"
        );
        tab
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Client in JSON mode.
struct Tab(Ws);

impl Tab {
    fn say(&mut self, event: Value) {
        self.0.send(Message::Text(event.to_string()));
    }

    fn next(&mut self) -> Result<Value, String> {
        match self.0.receive() {
            Ok(Message::Text(text)) => {
                serde_json::from_str(&text).map_err(|error| format!("{text}: {error}"))
            }
            other => Err(format!("expected an event, got {other:?}")),
        }
    }

    fn hears(&mut self, expected: &Value) -> Result<(), String> {
        let found = self.next()?;
        if found == *expected { Ok(()) } else { Err(format!("expected {expected}, got {found}")) }
    }
}

/// Runs a command; returns its output, or both outputs as the error if it fails.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(text) } else { Err(format!("{command:?}: {}\n{text}", output.status)) }
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
