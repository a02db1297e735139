//! Checks that the program in the README matches the compiled example

#[test]
fn readme_matches_chat_example() {
    let readme = include_str!("../../../README.md");
    let example = include_str!("../examples/chat.rs");
    let program = example.split_once("\n\n").map(|(_, program)| program.trim()).unwrap_or_default();
    assert!(program.starts_with("use roomcast::"), "{program}");
    assert!(
        readme.contains(program),
        "README.md shows another program than crates/roomcast/examples/chat.rs"
    );
}
