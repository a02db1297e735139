//! Generated blocks of a document, between `<!-- results: NAME -->` and `<!-- /results -->`.

use std::ops::Range;

/// Generated block of a document.
#[derive(Debug, PartialEq, Eq)]
struct Block<'a> {
    name: &'a str,
    /// Line of the opening marker, from 1.
    line: usize,
    /// Bytes between the markers.
    content: Range<usize>,
}

/// Returns a document with the content of every block replaced by `figure(name)`.
///
/// A block whose opening marker ends its line becomes a paragraph. Others are values within a line, which must not begin
/// it, since Markdown would end the paragraph there.
///
/// # Errors
///
/// Returns every problem with its line: malformed markers, and blocks for which `figure` fails.
pub(crate) fn fill(
    text: &str,
    figure: impl Fn(&str) -> Result<String, String>,
) -> Result<String, Vec<(usize, String)>> {
    let mut filled = String::with_capacity(text.len());
    let mut problems = Vec::new();
    let mut end = 0;
    for block in blocks(text).map_err(|problem| vec![problem])? {
        filled.push_str(&text[end..block.content.start]);
        end = block.content.end;
        match figure(block.name) {
            Ok(figure) if text[block.content.start..].starts_with('\n') => {
                filled.push_str("\n\n");
                filled.push_str(figure.trim_end());
                filled.push_str("\n\n");
            }
            Ok(figure) => filled.push_str(&figure),
            Err(problem) => problems.push((block.line, problem)),
        }
    }
    filled.push_str(&text[end..]);
    if problems.is_empty() { Ok(filled) } else { Err(problems) }
}

/// Returns the names of the blocks whose content differs between two versions of a document, with their lines.
pub(crate) fn stale<'a>(text: &'a str, filled: &str) -> Vec<(usize, &'a str)> {
    let (Ok(now), Ok(then)) = (blocks(text), blocks(filled)) else {
        return Vec::new();
    };
    now.into_iter()
        .zip(then)
        .filter(|(now, then)| text[now.content.clone()] != filled[then.content.clone()])
        .map(|(now, _)| (now.line, now.name))
        .collect()
}

fn blocks(text: &str) -> Result<Vec<Block<'_>>, (usize, String)> {
    let mut blocks = Vec::new();
    let mut at = 0;
    while let Some(marker) = text[at..].find("<!-- ").map(|found| at + found) {
        let line = 1 + text[..marker].matches('\n').count();
        if text[marker..].starts_with(CLOSE) {
            return Err((line, format!("`{CLOSE}` without an opening marker")));
        }
        at = marker + "<!-- ".len();
        let Some(rest) = text[marker..].strip_prefix(OPEN) else {
            continue;
        };
        let start = marker + OPEN.len();
        let Some(name) = rest.split_once(" -->").map(|(name, _)| name).filter(|name| !name.contains('\n'))
        else {
            return Err((line, "a `results` marker without `-->` in its line".into()));
        };
        let start = start + name.len() + " -->".len();
        let end = text[start..].find(CLOSE).map(|found| start + found);
        let Some(end) = end.filter(|&end| !text[start..end].contains(OPEN)) else {
            return Err((line, format!("the block `{}` has no `{CLOSE}`", name.trim())));
        };
        let begins_line = marker == 0 || text[..marker].ends_with('\n');
        if begins_line && !text[start..].starts_with('\n') {
            return Err((
                line,
                format!("the value `{}` begins a line; Markdown would end the paragraph", name.trim()),
            ));
        }
        blocks.push(Block { name: name.trim(), line, content: start..end });
        at = end + CLOSE.len();
    }
    Ok(blocks)
}

const OPEN: &str = "<!-- results:";
const CLOSE: &str = "<!-- /results -->";

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str) -> Result<String, String> {
        match name {
            "one" => Ok("1.07".into()),
            "table" => Ok("| a |\n".into()),
            other => Err(format!("unknown block {other}")),
        }
    }

    #[test]
    fn replaces_blocks_and_inline_values() {
        let text = "<!-- other -->\nIt is <!-- results: one -->9<!-- /results --> now.\n\n\
                    <!-- results: table -->\nold\n<!-- /results -->\nend\n";
        let filled = fill(text, figure).unwrap();
        assert_eq!(
            filled,
            "<!-- other -->\nIt is <!-- results: one -->1.07<!-- /results --> now.\n\n\
             <!-- results: table -->\n\n| a |\n\n<!-- /results -->\nend\n"
        );
        assert_eq!(fill(&filled, figure).unwrap(), filled, "a second time changes nothing");
        assert_eq!(stale(text, &filled), [(2, "one"), (4, "table")]);
        assert_eq!(stale(&filled, &filled), []);
    }

    #[test]
    fn reports_all_unknown_blocks() {
        let text = "a <!-- results: two --><!-- /results -->\n\n<!-- results: three -->\n<!-- /results -->";
        let problems = fill(text, figure).unwrap_err();
        assert_eq!(problems, [(1, "unknown block two".into()), (3, "unknown block three".into())]);
    }

    #[test]
    fn rejects_malformed_markers() {
        for (text, line, part) in [
            ("\n<!-- results: one -->1", 2, "`one` has no"),
            ("<!-- results: one --><!-- results: one --><!-- /results -->", 1, "`one` has no"),
            ("\n\n<!-- /results -->", 3, "without an opening"),
            ("<!-- results: one\n-->", 1, "without `-->`"),
            ("a\n<!-- results: one -->1<!-- /results -->", 2, "`one` begins a line"),
        ] {
            let problems = fill(text, figure).unwrap_err();
            assert_eq!(problems.len(), 1);
            assert!(problems[0].0 == line && problems[0].1.contains(part), "{text}: {problems:?}");
        }
    }
}
