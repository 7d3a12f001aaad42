//! Keys, as a terminal sends them.
//!
//! crossterm's own reader never comes back when the terminal has gone: to it the end of the input is nothing, and it reads again.
//! Here a terminal that hangs up, is at its end or has an error is gone.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use ratatui::crossterm::event::KeyCode;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// What a terminal sends at once is much shorter.
const BYTES: usize = 256;
/// How long to wait for the rest of a key whose first byte is Escape, which is a key, too.
const REST: Duration = Duration::from_millis(20);
const ESCAPE: u8 = 0x1b;
const CONTROL_C: u8 = 3;

/// What came of waiting for keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// None was pressed.
    Nothing,
    /// These were.
    Keys(Vec<KeyCode>),
    /// There is no terminal any more.
    Gone,
}

/// The keys of the terminal.
#[derive(Debug)]
pub(super) struct Keyboard {
    input: OwnedFd,
}

impl Keyboard {
    /// Standard input, or the terminal of the process where that is none.
    ///
    /// # Errors
    /// When there is no terminal.
    pub(super) fn open() -> io::Result<Self> {
        let stdin = io::stdin();
        let input = if stdin.is_terminal() {
            stdin.as_fd().try_clone_to_owned()?
        } else {
            File::open("/dev/tty")?.into()
        };
        Ok(Self { input })
    }

    /// Waits for a key.
    pub(super) fn hear(&self, patience: Duration) -> Heard {
        let mut bytes = Vec::new();
        if let Err(gone) = self.read(patience, &mut bytes) {
            return gone;
        }
        if bytes.last() == Some(&ESCAPE)
            && let Err(gone) = self.read(REST, &mut bytes)
        {
            return gone;
        }
        match keys(&bytes) {
            keys if keys.is_empty() => Heard::Nothing,
            keys => Heard::Keys(keys),
        }
    }

    /// Adds what comes within this time.
    fn read(&self, patience: Duration, bytes: &mut Vec<u8>) -> Result<(), Heard> {
        let timeout = Timespec::try_from(patience).map_err(|_| Heard::Gone)?;
        let mut fds = [PollFd::new(&self.input, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(_) => return Err(Heard::Gone),
        }
        let mut buffer = [0; BYTES];
        match rustix::io::read(&self.input, &mut buffer) {
            // Nothing to read although there is something to see: it has hung up.
            Ok(0) => Err(Heard::Gone),
            Ok(count) => {
                bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
                Ok(())
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(()),
            Err(_) => Err(Heard::Gone),
        }
    }
}

/// The keys that these bytes stand for (ECMA-48, as xterm sends them). Those that nobody asks for are left out.
fn keys(mut bytes: &[u8]) -> Vec<KeyCode> {
    let mut keys = Vec::new();
    while let [first, rest @ ..] = bytes {
        bytes = rest;
        let key = match *first {
            ESCAPE => {
                let (key, rest) = escaped(rest);
                bytes = rest;
                key
            }
            // As the terminal would have done by itself.
            CONTROL_C => Some(KeyCode::Char('q')),
            byte if byte.is_ascii_graphic() || byte == b' ' => {
                Some(KeyCode::Char(char::from(byte)))
            }
            _ => None,
        };
        keys.extend(key);
    }
    keys
}

/// The key behind an Escape, and what follows it.
fn escaped(bytes: &[u8]) -> (Option<KeyCode>, &[u8]) {
    match bytes {
        [b'O', letter, rest @ ..] => (of_letter(*letter), rest),
        [b'[', rest @ ..] => {
            let end = rest.iter().position(|byte| (0x40..=0x7e).contains(byte));
            let Some((number, [letter, rest @ ..])) =
                end.and_then(|end| rest.split_at_checked(end))
            else {
                return (None, &[]);
            };
            let key = match (letter, number) {
                (b'~', b"1" | b"7") => Some(KeyCode::Home),
                (b'~', b"4" | b"8") => Some(KeyCode::End),
                (b'~', b"5") => Some(KeyCode::PageUp),
                (b'~', b"6") => Some(KeyCode::PageDown),
                (letter, b"") => of_letter(*letter),
                _ => None,
            };
            (key, rest)
        }
        _ => (Some(KeyCode::Esc), bytes),
    }
}

fn of_letter(letter: u8) -> Option<KeyCode> {
    match letter {
        b'A' => Some(KeyCode::Up),
        b'B' => Some(KeyCode::Down),
        b'H' => Some(KeyCode::Home),
        b'F' => Some(KeyCode::End),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn bytes_are_keys() {
        let char = KeyCode::Char;
        for (bytes, expected) in [
            (&b"q"[..], vec![char('q')]),
            (b"s p", vec![char('s'), char(' '), char('p')]),
            (b"\x1b", vec![KeyCode::Esc]),
            (b"\x1b[A\x1b[B", vec![KeyCode::Up, KeyCode::Down]),
            (b"\x1bOA\x1bOFq", vec![KeyCode::Up, KeyCode::End, char('q')]),
            (b"\x1b[5~\x1b[6~", vec![KeyCode::PageUp, KeyCode::PageDown]),
            (b"\x1b[H\x1b[4~", vec![KeyCode::Home, KeyCode::End]),
            // A key that nobody asks for, a part of one, and what is no key at all.
            (b"\x1b[15~\x1b[1;5A?", vec![char('?')]),
            (b"\x1b[1", vec![]),
            (b"\x03", vec![char('q')]),
            (b"\r\n\t\x80\xff", vec![]),
        ] {
            assert_eq!(keys(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn an_end_of_the_input_is_an_end() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let keyboard = Keyboard { input: near.into() };
        assert_eq!(keyboard.hear(Duration::ZERO), Heard::Nothing);
        far.write_all(b"\x1b").unwrap();
        assert_eq!(
            keyboard.hear(Duration::from_secs(10)),
            Heard::Keys(vec![KeyCode::Esc])
        );
        drop(far);
        assert_eq!(keyboard.hear(Duration::from_secs(10)), Heard::Gone);
    }
}
