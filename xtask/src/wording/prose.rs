//! Extracts comments from sources, and text from Markdown.

/// Consecutive lines of comment or a paragraph of Markdown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// First line, counted from 1.
    pub(super) line: usize,
    /// The lines joined with spaces, without comment markers.
    pub(super) text: String,
}

/// Collects lines into blocks; leaves out fenced code.
#[derive(Default)]
struct Blocks {
    done: Vec<Block>,
    open: Option<Block>,
    is_fenced: bool,
}

impl Blocks {
    fn push(&mut self, line: usize, text: &str) {
        let text = text.trim();
        if text.starts_with("```") || text.starts_with("~~~") {
            self.is_fenced = !self.is_fenced;
            return self.end();
        }
        if self.is_fenced {
            return;
        }
        if text.is_empty() {
            return self.end();
        }
        match &mut self.open {
            Some(block) => {
                block.text.push(' ');
                block.text.push_str(text);
            }
            None => self.open = Some(Block { line, text: text.to_owned() }),
        }
    }

    fn end(&mut self) {
        self.done.extend(self.open.take());
    }

    fn finish(mut self) -> Vec<Block> {
        self.end();
        self.done
    }
}

/// Returns the paragraphs of a Markdown document; a list item, heading or table cell is a block.
pub(super) fn markdown(text: &str) -> Vec<Block> {
    let mut blocks = Blocks::default();
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        if let Some(row) = trimmed.strip_prefix('|') {
            for cell in row.split('|') {
                blocks.end();
                blocks.push(index + 1, cell);
            }
        } else if trimmed.starts_with('#') {
            blocks.end();
            blocks.push(index + 1, trimmed.trim_start_matches('#'));
            blocks.end();
        } else {
            let item = trimmed.strip_prefix("- ").or_else(|| trimmed.strip_prefix("* "));
            if item.is_some() {
                blocks.end();
            }
            blocks.push(index + 1, item.unwrap_or(trimmed));
        }
    }
    blocks.finish()
}

/// Returns the comments of a source in Rust or JavaScript; strings are skipped.
pub(super) fn comments(source: &str) -> Vec<Block> {
    let mut blocks = Blocks::default();
    let mut rest = source;
    let mut line = 1;
    let mut last_comment = 0;
    let mut is_after_code = false;
    while let Some(next) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            let length = rest.find('\n').unwrap_or(rest.len());
            if is_after_code || last_comment + 1 < line {
                blocks.end();
                blocks.is_fenced = false;
            }
            blocks.push(line, rest[..length].trim_start_matches('/').trim_start_matches('!'));
            last_comment = if is_after_code { 0 } else { line };
            length
        } else if rest.starts_with("/*") {
            let length = rest.find("*/").map_or(rest.len(), |end| end + 2);
            blocks.end();
            blocks.is_fenced = false;
            for (index, text) in rest[..length].trim_end_matches("*/").lines().enumerate() {
                blocks.push(line + index, text.trim().trim_start_matches(['/', '*', '!']));
            }
            blocks.end();
            length
        } else {
            string(rest).unwrap_or_else(|| next.len_utf8())
        };
        line += rest[..length].matches('\n').count();
        is_after_code = !next.is_whitespace() || is_after_code && next != '\n';
        rest = &rest[length..];
    }
    blocks.finish()
}

/// Returns the length of the string or character literal that the source starts with.
fn string(source: &str) -> Option<usize> {
    if let Some(raw) = source.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let inner = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = inner.find(&end).map_or(inner.len(), |at| at + end.len());
        return Some(1 + hashes + 1 + length);
    }
    let quote = source.chars().next().filter(|first| ['"', '\'', '`'].contains(first))?;
    let mut is_escaped = false;
    for (at, next) in source.char_indices().skip(1) {
        match next {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if next == quote => return Some(at + 1),
            // A lifetime or label, or an apostrophe outside a literal.
            '\n' if quote == '\'' => return None,
            ' ' | ',' | ';' | ':' | '>' | ')' | '{' | '&'
                if quote == '\'' && at > 1 && is_lifetime(&source[1..at]) =>
            {
                return None;
            }
            _ => {}
        }
    }
    None
}

fn is_lifetime(name: &str) -> bool {
    name.chars().all(|each| each.is_alphanumeric() || each == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(blocks: Vec<Block>) -> Vec<(usize, String)> {
        blocks.into_iter().map(|block| (block.line, block.text)).collect()
    }

    fn block(line: usize, text: &str) -> (usize, String) {
        (line, text.to_owned())
    }

    #[test]
    fn joins_consecutive_comment_lines() {
        let source =
            "//! One\n//! two.\n\nfn f() {} // Three\n/// Four\n///\n/// Five\nfn g() {}\n/* Six */\n";
        assert_eq!(
            texts(comments(source)),
            [block(1, "One two."), block(4, "Three"), block(5, "Four"), block(7, "Five"), block(9, "Six")]
        );
    }

    #[test]
    fn skips_strings_and_fenced_code() {
        let source = "let a = \"// no\\\" // no\"; let b = r#\"\" // no\"#; let c = '\"'; // yes\n\
                      /// ```\n/// // no\n/// ```\n/// again\nlet d: &'a str = x; // last";
        assert_eq!(texts(comments(source)), [block(1, "yes"), block(5, "again"), block(6, "last")]);
    }

    #[test]
    fn reads_markdown_by_paragraph() {
        let text = "# Title\nText\nmore\n\n```sh\nno\n```\n| a | b |\n- item\n  goes on\n";
        assert_eq!(
            texts(markdown(text)),
            [
                block(1, "Title"),
                block(2, "Text more"),
                block(8, "a"),
                block(8, "b"),
                block(9, "item goes on")
            ]
        );
    }
}
