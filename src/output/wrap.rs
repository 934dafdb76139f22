//! Lines that fit.

/// The fewest columns that text is wrapped into; below that, lines run over.
const LEAST: usize = 8;

/// Breaks `text` at spaces into lines of at most `width` characters, and inside a word where the word alone is longer.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(LEAST);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut length = 0;
    for word in text.split(' ') {
        let mut rest: Vec<char> = word.chars().collect();
        if length > 0 && length + 1 + rest.len() > width {
            lines.push(std::mem::take(&mut line));
            length = 0;
        } else if length > 0 {
            line.push(' ');
            length += 1;
        }
        while rest.len() > width {
            lines.push(rest.drain(..width).collect());
        }
        length += rest.len();
        line.extend(rest);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces_and_long_words_inside() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("a 0123456789", 8), ["a", "01234567", "89"]);
        assert_eq!(wrap("", 8), [""]);
    }

    #[test]
    fn no_width_is_too_small() {
        assert_eq!(wrap("0123456789", 0), ["01234567", "89"]);
    }
}
