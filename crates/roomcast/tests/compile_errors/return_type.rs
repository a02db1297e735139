use roomcast::debug_handler;

struct User {
    name: &'static str,
}

struct NotDisplay;

#[debug_handler]
async fn whoami() -> User {
    User { name: "ada" }
}

#[debug_handler]
fn whoami_at_once() -> User {
    User { name: "ada" }
}

#[debug_handler]
async fn fails() -> Result<(), NotDisplay> {
    Err(NotDisplay)
}

#[debug_handler]
async fn finds() -> Result<User, String> {
    Ok(User { name: "ada" })
}

fn main() {
    println!("{}", User { name: "ada" }.name);
    let _ = whoami;
    let _ = whoami_at_once;
    let _ = fails;
    let _ = finds;
}
