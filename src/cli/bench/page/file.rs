//! Writing a page: the file is there as a whole, or as it was before.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;

use super::Page;
use crate::fault::{Explained, Fault};

/// Why a page cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the report {path}: {source}", path = .path.display())]
pub(in crate::cli::bench) struct PageError {
    path: PathBuf,
    source: io::Error,
}

impl Explained for PageError {
    fn fault(&self) -> Fault {
        Fault::PageNotWritten
    }
}

impl Page {
    /// Writes it into a file beside, which then takes the name: who reads meanwhile sees the old page or the new one.
    pub(in crate::cli::bench) fn write(&self, path: &Path) -> Result<(), PageError> {
        replace(path, self.html().as_bytes()).map_err(|source| PageError {
            path: path.to_owned(),
            source,
        })
    }
}

/// Whether a file could be made there, as far as can be told beforehand.
pub(in crate::cli::bench) fn writable(path: &Path) -> Result<(), PageError> {
    let failed = |source| PageError {
        path: path.to_owned(),
        source,
    };
    let temporary = beside(path).map_err(failed)?;
    create(&temporary).map_err(failed)?;
    fs::remove_file(&temporary).map_err(failed)
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = beside(path)?;
    let written = create(&temporary)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // It has no name that anybody asked for; why it failed is told already.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// A new file: never one that is there, nor what a link leads to.
fn create(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// A name in the same folder, so that the file can be renamed.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().filter(|_| !path.is_dir());
    let name = name.ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", process::id()));
    Ok(path.with_file_name(hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_page_takes_the_place_of_the_old_one_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.html");
        fs::write(&path, "old").unwrap();
        writable(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        Page::new("a", "b", "c").write(&path).unwrap();
        assert!(fs::read_to_string(&path).unwrap().ends_with("</html>\n"));
        assert_eq!(names(folder.path()), ["r.html"]);
    }

    #[test]
    fn where_it_cannot_be_that_is_said_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no/r.html");
        let error = writable(&missing).unwrap_err().to_string();
        assert!(
            error.contains("no/r.html") && error.contains("No such file"),
            "{error}"
        );
        let error = Page::new("a", "b", "c").write(folder.path()).unwrap_err();
        assert!(error.to_string().contains("is a directory"), "{error}");
        assert_eq!(names(folder.path()), Vec::<String>::new());
    }
}
