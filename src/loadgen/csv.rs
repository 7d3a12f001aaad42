//! Comma-separated values (RFC 4180), each line ended by a line feed.

use std::fmt::Write;

/// One line of CSV: what holds a comma, a quote or the end of a line is quoted, and quotes in it are doubled (RFC 4180 §2).
pub fn line(fields: &[String]) -> String {
    let mut text = String::new();
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        if field.contains([',', '"', '\n', '\r']) {
            // Writing into a string cannot fail.
            let _ = write!(text, "\"{}\"", field.replace('"', "\"\""));
        } else {
            text.push_str(field);
        }
    }
    text.push('\n');
    text
}

/// A value as a field; none is an empty one.
pub fn optional<T: ToString>(value: Option<T>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Reads what [`line`] wrote, by the grammar of RFC 4180 §2.
    pub fn fields(line: &str) -> Vec<String> {
        let mut fields = vec![String::new()];
        let mut quoted = false;
        let mut chars = line.trim_end_matches('\n').chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '"' if quoted && chars.peek() == Some(&'"') => {
                    chars.next();
                    fields.last_mut().unwrap().push('"');
                }
                '"' => quoted = !quoted,
                ',' if !quoted => fields.push(String::new()),
                _ => fields.last_mut().unwrap().push(char),
            }
        }
        fields
    }

    #[test]
    fn what_would_end_a_field_is_quoted() {
        let wild = ["a,b", "say \"x\"", "two\nlines", "plain", ""].map(str::to_owned);
        let written = line(&wild);
        assert_eq!(written, "\"a,b\",\"say \"\"x\"\"\",\"two\nlines\",plain,\n");
        assert_eq!(fields(&written), wild);
    }
}
