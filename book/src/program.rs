//! Rust program that grows with the blocks of a page.

/// Source file built from the blocks of a page: each block replaces the items that it repeats, and adds the others.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// `use` lines, sorted.
    uses: Vec<String>,
    items: Vec<Item>,
}

#[derive(Debug, Clone)]
struct Item {
    /// Keyword and name, such as `fn main`.
    name: String,
    code: String,
}

impl Program {
    /// Applies a block of the page.
    pub fn apply(&mut self, block: &str) {
        let (uses, items): (Vec<_>, Vec<_>) =
            paragraphs(block).into_iter().partition(|part| part.starts_with("use "));
        for line in uses.iter().flat_map(|paragraph| paragraph.lines()) {
            self.uses.retain(|old| parent(old) != parent(line));
            self.uses.push(line.to_owned());
        }
        self.uses.sort();
        for code in items {
            let item = Item { name: name(&code), code };
            match self.items.iter_mut().find(|old| old.name == item.name) {
                Some(old) => *old = item,
                None => self.items.push(item),
            }
        }
    }

    /// Returns the source text.
    pub fn text(&self) -> String {
        let mut text = self.uses.join("\n");
        self.items.iter().for_each(|item| text.push_str(&format!("\n\n{}", item.code)));
        text + "\n"
    }
}

/// Splits a block into its items: a blank line, then a line that is not indented.
fn paragraphs(block: &str) -> Vec<String> {
    let mut paragraphs: Vec<String> = Vec::new();
    for part in block.trim_end().split("\n\n") {
        match paragraphs.last_mut() {
            Some(last) if part.starts_with([' ', '}', '\n']) => last.push_str(&format!("\n\n{part}")),
            _ => paragraphs.push(part.to_owned()),
        }
    }
    paragraphs
}

/// Returns the path of a `use` line without its last segment.
fn parent(line: &str) -> &str {
    line.rsplit_once("::").map_or(line, |(parent, _)| parent)
}

/// Returns keyword and name of an item.
fn name(code: &str) -> String {
    let mut lines = code.lines().skip_while(|line| line.starts_with('#') || line.starts_with("//"));
    let line = lines.next().unwrap_or_default().replace("async ", "").replace("pub ", "");
    let (keyword, rest) = line.split_once(' ').unwrap_or((&line, ""));
    let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
    format!("{keyword} {}", &rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_repeated_items() {
        let mut program = Program::default();
        program.apply("use a::{B, C};\n\n#[x]\nasync fn main() {\n    b();\n\n    c();\n}\n\nfn b() {}\n");
        program.apply("use a::D;\nuse a::e::F;\n\nasync fn b(it: D) {}\n\nstruct G;\n");
        assert_eq!(
            program.text(),
            "use a::D;\nuse a::e::F;\n\n#[x]\nasync fn main() {\n    b();\n\n    c();\n}\n\nasync fn b(it: D) {}\n\n\
             struct G;\n"
        );
    }
}
