//! Code blocks of a page.

use mdbook_markdown::pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Tag, TagEnd};
use mdbook_markdown::{MarkdownOptions, new_cmark_parser};

/// Fenced code block.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Block {
    /// Title of the section of level 2 that contains the block; empty before the first one.
    pub section: String,
    /// Words after the fence, such as `rust,ignore`.
    pub info: String,
    /// Contents, with a line break at the end.
    pub code: String,
}

impl Block {
    /// Returns the first word after the fence.
    pub fn language(&self) -> &str {
        self.info.split(',').next().unwrap_or_default()
    }

    /// Returns whether a word follows the language.
    pub fn is_marked(&self, word: &str) -> bool {
        self.info.split(',').skip(1).any(|marked| marked == word)
    }
}

/// Returns the code blocks of a page.
pub fn blocks(page: &str) -> Vec<Block> {
    let (mut blocks, mut section) = (Vec::new(), String::new());
    let (mut open, mut in_heading): (Option<Block>, _) = (None, false);
    for event in new_cmark_parser(page, &MarkdownOptions::default()) {
        match event {
            Event::Start(Tag::Heading { level: HeadingLevel::H2, .. }) => {
                section.clear();
                in_heading = true;
            }
            Event::End(TagEnd::Heading(_)) => in_heading = false,
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                open =
                    Some(Block { section: section.clone(), info: info.into_string(), code: String::new() });
            }
            Event::Text(text) | Event::Code(text) if in_heading => section.push_str(&text),
            Event::Text(text) => {
                if let Some(block) = &mut open {
                    block.code.push_str(&text);
                }
            }
            Event::End(TagEnd::CodeBlock) => blocks.extend(open.take()),
            _ => {}
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_blocks_with_their_sections() {
        let page = "```sh\na\n```\n\n## Run `it`\n\n```sh,run\nb\nc\n```\n\n### More\n\n```rust\nd\n```\n";
        let block = |section: &str, info: &str, code: &str| Block {
            section: section.to_owned(),
            info: info.to_owned(),
            code: code.to_owned(),
        };
        let expected =
            [block("", "sh", "a\n"), block("Run it", "sh,run", "b\nc\n"), block("Run it", "rust", "d\n")];
        assert_eq!(blocks(page), expected);
        assert!(expected[1].is_marked("run") && !expected[0].is_marked("run"));
        assert_eq!(expected[1].language(), "sh");
    }
}
