//! UNIX sockets that have a name in the file system.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use rustix::net::SocketAddrUnix;

use crate::gateway::{self, Patience, peer_pid};

/// How long to wait for a place in the queue of whoever listens on a path that is to be ours.
const QUEUED: Duration = Duration::from_secs(1);
/// Who may connect: the owner and the group.
const MODE: u32 = 0o660;

/// Why a name could not be had.
pub(super) enum BindError {
    /// Somebody answers there.
    Served,
    /// Something else has the name.
    NoSocket,
    /// What the kernel said.
    Io(io::Error),
}

impl From<io::Error> for BindError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Listens on a path, and makes the folder that it is in. A file that a dead process left is replaced.
pub(super) fn bind(path: &Path) -> Result<UnixListener, BindError> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder)?;
    }
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => return Err(BindError::NoSocket),
        Ok(_) if is_served(path)? => return Err(BindError::Served),
        // Left by a process that was killed.
        Ok(_) => clear(path)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    if let Err(error) = fs::set_permissions(path, Permissions::from_mode(MODE)) {
        unbind(path);
        return Err(error.into());
    }
    Ok(listener)
}

/// Takes away the name of whoever has ended, unless that has been done by now.
fn clear(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Takes the name away.
pub(super) fn unbind(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(%error, path = %path.display(), "a socket of ours was gone already");
    }
}

/// Connects to whoever listens on a path; see [`gateway::connect`].
///
/// # Errors
/// As there, and when no socket can have such a path.
pub(super) fn connect(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    gateway::connect(&SocketAddrUnix::new(path)?, patience)
}

/// Whether a process listens on the path that will go on doing so: one that is dying is waited for.
///
/// # Errors
/// When the kernel does not say that nobody does: a socket of another kind, or one that is out of reach, is somebody's.
fn is_served(path: &Path) -> io::Result<bool> {
    let mut patience = Patience::new();
    loop {
        match connect(path, QUEUED) {
            Ok(stream) if patience.again(peer_pid(&stream)) => {}
            Ok(_) => return Ok(true),
            Err(error) => match error.kind() {
                // So many have asked that one more finds no room: somebody hangs.
                io::ErrorKind::WouldBlock => return Ok(true),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => return Ok(false),
                _ => return Err(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::mpsc;
    use std::thread;

    use rustix::net::{AddressFamily, SocketType};

    use super::*;

    #[test]
    fn a_socket_of_another_kind_is_left_to_whoever_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let theirs = UnixDatagram::bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(BindError::Io(_))));
        let ours = UnixDatagram::unbound().unwrap();
        ours.send_to(b"there", &path).unwrap();
        let mut bytes = [0; 5];
        theirs.recv(&mut bytes).unwrap();
        assert_eq!(&bytes, b"there");
        // What is left of it is nobody's.
        drop(theirs);
        assert!(bind(&path).is_ok());
    }

    #[test]
    fn whoever_has_a_full_queue_has_the_name_still() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full");
        let hung = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&hung, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        // Room for one.
        rustix::net::listen(&hung, 0).unwrap();
        let _first = UnixStream::connect(&path).unwrap();
        let (tell, told) = mpsc::channel();
        let name = path.clone();
        thread::spawn(move || tell.send(bind(&name)));
        let outcome = told.recv_timeout(30 * QUEUED).expect("an end");
        assert!(matches!(outcome, Err(BindError::Served)));
        assert!(path.exists());
    }

    #[test]
    fn a_name_that_its_owner_has_taken_away_by_itself_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone");
        drop(UnixListener::bind(&path).unwrap());
        for _ in 0..2 {
            clear(&path).unwrap();
        }
        assert!(bind(&path).is_ok());
    }
}
