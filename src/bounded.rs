//! Files that others wrote, read whole, and never more of them than is meant.
//!
//! What a file says of its own length counts for nothing but room: a device or a pipe says 0 and may have no end, and a file may grow
//! while it is read.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Reads a file of at most so many bytes; `longer` says what to tell of one that has more.
///
/// # Errors
/// When it cannot be read, or has more.
pub fn read(path: &Path, len_max: u64, longer: impl FnOnce() -> String) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let said = file.metadata()?.len();
    let mut bytes = Vec::new();
    if said <= len_max {
        let room = usize::try_from(said).unwrap_or(0);
        bytes.try_reserve_exact(room)?;
        file.take(len_max.saturating_add(1))
            .read_to_end(&mut bytes)?;
    }
    if said > len_max || bytes.len() as u64 > len_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, longer()));
    }
    Ok(bytes)
}

/// Reads a file of text, as [`read`] does.
///
/// # Errors
/// As [`read`], and when it is no UTF-8.
pub fn read_text(path: &Path, len_max: u64, longer: impl FnOnce() -> String) -> io::Result<String> {
    let bytes = read(path, len_max, longer)?;
    let no_text = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    String::from_utf8(bytes).map_err(no_text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn longer() -> String {
        "longer than that".to_owned()
    }

    #[test]
    fn as_much_as_may_be_is_read_and_not_a_byte_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"1234").unwrap();
        assert_eq!(read(&path, 4, longer).unwrap(), b"1234");
        assert_eq!(read_text(&path, 9, longer).unwrap(), "1234");
        let error = read(&path, 3, longer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(error.to_string(), "longer than that");
    }

    #[test]
    fn a_device_without_an_end_is_too_long_and_a_folder_is_no_file() {
        let error = read(Path::new("/dev/zero"), 1 << 16, longer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(read(Path::new("/dev/null"), 1, longer).unwrap().is_empty());
        let error = read(Path::new("/proc"), 1, longer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        let error = read_text(Path::new("/dev/zero"), 0, longer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn what_is_no_text_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"\xff").unwrap();
        let error = read_text(&path, 9, longer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
