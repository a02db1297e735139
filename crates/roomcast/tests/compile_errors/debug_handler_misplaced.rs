use roomcast::debug_handler;

#[debug_handler]
struct NoFunction;

#[debug_handler]
async fn generic<T: serde::de::DeserializeOwned>(_: T) {}

#[debug_handler(strict)]
async fn with_arguments() {}

struct App;

impl App {
    #[debug_handler]
    async fn method(&self, _text: String) {}
}

fn main() {}
