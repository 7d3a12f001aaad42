//! UNIX sockets that have a name in the file system.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::gateway::{Patience, peer_pid};

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
        Ok(_) if is_served(path) => return Err(BindError::Served),
        // Left by a process that was killed.
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    if let Err(error) = fs::set_permissions(path, Permissions::from_mode(MODE)) {
        unbind(path);
        return Err(error.into());
    }
    Ok(listener)
}

/// Takes the name away.
pub(super) fn unbind(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(%error, path = %path.display(), "a socket of ours was gone already");
    }
}

/// Whether a process listens on the path that will go on doing so: one that is dying is waited for.
fn is_served(path: &Path) -> bool {
    let mut patience = Patience::new();
    while let Ok(stream) = UnixStream::connect(path) {
        if !patience.again(peer_pid(&stream)) {
            return true;
        }
    }
    false
}
