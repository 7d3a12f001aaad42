//! A frame as hexadecimal digits: bare, with anything between the bytes, or as `xxd`, `tcpdump -xx` and Wireshark write it.

use super::{FRAME_LEN_MAX, InputError};

/// Reads the bytes of a frame.
///
/// Lines of a dump begin with an offset and a colon (`0x0010:` of tcpdump, `00000010:` of xxd), or with an offset of four digits
/// and two spaces (Wireshark), and may end with the bytes as characters behind two spaces. Where some lines have an offset, the
/// others are what tcpdump says of the frame.
///
/// # Errors
/// When there are none, an odd number of digits, something else among them, a gap between two lines, or a second frame.
pub fn read_hex(text: &str) -> Result<Vec<u8>, InputError> {
    let is_dump = text.lines().any(|line| Line::of(line).offset.is_some());
    let mut bytes = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = Line::of(line);
        if is_dump && line.offset.is_none() {
            continue;
        }
        let of_line = |why: String| InputError::Hex(format!("line {number}{why}"));
        match line.offset {
            Some(0) if !bytes.is_empty() => {
                return Err(of_line(" begins a second frame: give one".to_owned()));
            }
            Some(offset) if offset != bytes.len() => {
                let before = bytes.len();
                return Err(of_line(format!(
                    " has the offset {offset:#x}, and there are {before} bytes before it"
                )));
            }
            _ => {}
        }
        read_line(line.digits, &mut bytes).map_err(of_line)?;
        if bytes.len() > FRAME_LEN_MAX {
            let why = format!("there are more than {FRAME_LEN_MAX} bytes");
            return Err(InputError::Hex(why));
        }
    }
    if bytes.is_empty() {
        return Err(InputError::Hex("there are none".to_owned()));
    }
    Ok(bytes)
}

/// Reads the bytes of a line; why not, as words behind its number.
fn read_line(digits: &str, bytes: &mut Vec<u8>) -> Result<(), String> {
    let mut half = None;
    for character in digits.chars() {
        let Some(digit) = character.to_digit(16) else {
            if is_between(character) {
                continue;
            }
            return Err(format!(": {character:?} is no hexadecimal digit"));
        };
        let digit = digit as u8; // Below 16.
        half = match half {
            None => Some(digit),
            Some(high) => {
                bytes.push(high << 4 | digit);
                None
            }
        };
    }
    match half {
        None => Ok(()),
        Some(_) => Err(" has an odd number of digits".to_owned()),
    }
}

/// What may stand between bytes.
fn is_between(character: char) -> bool {
    character.is_whitespace() || matches!(character, ':' | '-' | ',' | '.')
}

/// A line, without the offset in front and the characters behind.
struct Line<'a> {
    offset: Option<usize>,
    digits: &'a str,
}

impl<'a> Line<'a> {
    fn of(line: &'a str) -> Self {
        let line = line.trim();
        let with_colon = line.split_once(": ").or_else(|| line.split_once(":\t"));
        let with_spaces = line.split_once("  ");
        for (offset, rest) in [with_colon, with_spaces].into_iter().flatten() {
            let offset = offset.strip_prefix("0x").unwrap_or(offset);
            // Shorter ones are bytes.
            if offset.len() >= 4
                && !rest.trim().is_empty()
                && let Ok(offset) = usize::from_str_radix(offset, 16)
            {
                let rest = rest.trim_start();
                return Self {
                    offset: Some(offset),
                    digits: rest.split_once("  ").map_or(rest, |(bytes, _)| bytes),
                };
            }
        }
        Self {
            offset: None,
            digits: line.strip_prefix("0x").unwrap_or(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: [u8; 20] = [
        0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x02, 0x08, 0x06, 0x41,
        0x42, 0x43, 0x44, 0xab, 0xcd,
    ];

    #[test]
    fn digits_are_read_in_all_the_ways_that_tools_write_them() {
        for text in [
            "020000000001020000000002080641424344abcd",
            "0x020000000001020000000002080641424344ABCD",
            "02 00 00 00 00 01 02 00 00 00 00 02 08 06 41 42 43 44 ab cd\n",
            "02:00:00:00:00:01:02:00:00:00:00:02:08:06:41:42:43:44:ab:cd",
            "02-00-00-00-00-01 02-00-00-00-00-02\n0806\n41424344abcd",
            // tcpdump -xx
            "\t0x0000:  0200 0000 0001 0200 0000 0002 0806 4142\n\t0x0010:  4344 abcd\n",
            // tcpdump -xx with what it says of the frame
            "12:34:56.789 ARP, Request who-has 10.0.0.1, length 6\n\t0x0000:  0200 0000 0001 0200 0000 0002 0806 4142\n\t0x0010:  4344 abcd\n",
            // tcpdump -XX
            "\t0x0000:  0200 0000 0001 0200 0000 0002 0806 4142  ..............AB\n\t0x0010:  4344 abcd                                CD..\n",
            // xxd
            "00000000: 0200 0000 0001 0200 0000 0002 0806 4142  ..............AB\n00000010: 4344 abcd                                CD..\n",
            // Wireshark
            "0000   02 00 00 00 00 01 02 00 00 00 00 02 08 06 41 42\n0010   43 44 ab cd\n",
        ] {
            assert_eq!(read_hex(text).as_deref(), Ok(&BYTES[..]), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_frame_is_told_by_its_line() {
        let words = |text: &str| read_hex(text).unwrap_err().to_string();
        assert!(words("0200\n02z0").contains("line 2: 'z'"));
        assert!(words("020").contains("line 1 has an odd number"));
        assert!(words("0x0000:  0200\n0x0000:  0200").contains("line 2 begins a second frame"));
        assert!(words("0x0000:  0200\n0x0010:  0200").contains("line 2 has the offset 0x10"));
        assert!(words("0x0010:  0200").contains("line 1 has the offset 0x10"));
        assert!(words("").contains("there are none"));
        assert!(words(" \n: -").contains("there are none"));
        assert!(words(&"00".repeat(FRAME_LEN_MAX + 1)).contains("more than"));
    }
}
