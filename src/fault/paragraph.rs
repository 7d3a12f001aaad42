//! Prose in lines of a width.

/// The words of a paragraph in lines of at most so many columns, each behind this margin. A word that is too long has a line
/// to itself.
pub fn filled(margin: &str, words: &str, width: usize) -> String {
    let mut lines = String::new();
    let mut line = String::from(margin);
    let mut is_empty = true;
    for word in words.split(' ') {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > width {
            lines.push_str(&line);
            lines.push('\n');
            line.truncate(margin.len());
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    lines + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_filled_up_to_the_width_and_no_word_is_torn() {
        assert_eq!(filled("# ", "a bc def", 6), "# a bc\n# def\n");
        assert_eq!(filled("# ", "a bc def", 5), "# a\n# bc\n# def\n");
        assert_eq!(filled("  ", "a abcdef b", 4), "  a\n  abcdef\n  b\n");
    }
}
