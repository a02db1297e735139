use roomcast::{Io, Socket};

struct Point {
    x: f32,
}

async fn draw(_: Socket, _color: String, point: Point) {
    println!("{}", point.x);
}

fn main() {
    Io::new().on("draw", draw);
}
