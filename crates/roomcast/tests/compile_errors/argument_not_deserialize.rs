use roomcast::{Socket, debug_handler};

struct Point {
    x: f32,
}

#[debug_handler]
async fn draw(_: Socket, _color: String, point: Point) {
    println!("{}", point.x);
}

fn main() {
    let _ = draw;
}
