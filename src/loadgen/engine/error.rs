//! What can go wrong with sending and receiving, and what to do about it.

use std::io;

/// A step of the load generator that failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The kernel does not take a BPF program or map.
    #[error("cannot load the {what}: {source:#}; {hint}", hint = load_hint(.source))]
    Load {
        /// Which part.
        what: &'static str,
        /// The kernel's answer.
        source: libbpf_rs::Error,
    },
    /// A map could not be read or written.
    #[error("cannot access {what} of the load generator: {source:#}")]
    Map {
        /// Which.
        what: &'static str,
        /// The kernel's answer.
        source: libbpf_rs::Error,
    },
    /// The receiving device does not take the program.
    #[error("cannot receive on {device}: {source:#}; {hint}", hint = attach_hint(.source))]
    Attach {
        /// The device.
        device: String,
        /// The kernel's answer.
        source: libbpf_rs::Error,
    },
    /// The load or the expectations contradict themselves, or are more than an engine can hold.
    #[error("cannot run this load: {0}")]
    Plan(String),
    /// There is no such device, or it cannot carry the load.
    #[error("cannot use {device}: {why}")]
    Device {
        /// The device.
        device: String,
        /// Why, and what to do.
        why: String,
    },
    /// The kernel ended a run, or refused it.
    #[error("the generator on {device} failed: {source:#}; {hint}", hint = run_hint(.source))]
    Run {
        /// The device.
        device: String,
        /// The kernel's answer.
        source: libbpf_rs::Error,
    },
    /// An AF_XDP socket could not be made.
    #[error("cannot open an AF_XDP socket on queue {queue} of {device}: {source}; {hint}", hint = socket_hint(.source))]
    Socket {
        /// The device.
        device: String,
        /// Its queue.
        queue: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Another step that the operating system refused.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was attempted.
        doing: String,
        /// Why not.
        source: io::Error,
    },
    /// Frames that were to be sent could not even be made.
    #[error("{count} frames could not be built on {device}: {why}")]
    Unbuilt {
        /// The device.
        device: String,
        /// How many.
        count: u64,
        /// The likely cause.
        why: &'static str,
    },
}

impl EngineError {
    /// A failed access to a map, for `map_err`.
    pub(super) fn map(what: &'static str) -> impl FnOnce(libbpf_rs::Error) -> Self {
        move |source| Self::Map { what, source }
    }
}

fn load_hint(source: &libbpf_rs::Error) -> &'static str {
    match errno(source) {
        Some(libc::EPERM) => "run it as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW",
        Some(libc::ENOMEM | libc::E2BIG) => {
            "there is not enough memory for its maps: use fewer flows"
        }
        _ => "the load generator needs Linux 5.18 or later, with BPF and XDP",
    }
}

fn attach_hint(source: &libbpf_rs::Error) -> &'static str {
    match errno(source) {
        Some(libc::EPERM | libc::EACCES) => "run it as root, or with CAP_BPF and CAP_NET_ADMIN",
        Some(libc::ENODEV) => "there is no such device in this network namespace",
        Some(libc::EBUSY | libc::EEXIST) => {
            "another XDP program runs there: stop its process, or detach it with `ip link set dev DEVICE xdp off`"
        }
        Some(libc::ENOSPC) => {
            "a veth needs as many receive queues as its peer has transmit queues: create both with the same \
             `numrxqueues N numtxqueues N`"
        }
        Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ERANGE) => {
            "the device, its MTU or its offloads do not allow an XDP program"
        }
        _ => "XDP programs and their links need Linux 5.18 or later",
    }
}

fn socket_hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "run it as root, or with CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF"
        }
        Some(libc::EBUSY) => "another process has a socket there: stop it, or choose another queue",
        Some(libc::EINVAL) => {
            "the device has no such queue, or the kernel is too old for frames of this MTU"
        }
        Some(libc::ENOBUFS | libc::ENOMEM) => {
            "raise the limit of locked memory (ulimit -l unlimited)"
        }
        Some(libc::EAFNOSUPPORT) => "this kernel has no AF_XDP",
        _ => "the device does not allow it",
    }
}

/// The error number, which libbpf-rs gives away at the end of the error's words only.
fn errno(error: &libbpf_rs::Error) -> Option<i32> {
    let words = format!("{error:#}");
    let (_, number) = words.strip_suffix(')')?.rsplit_once("(os error ")?;
    number.parse().ok()
}

fn run_hint(source: &libbpf_rs::Error) -> &'static str {
    match errno(source) {
        Some(libc::EPERM | libc::EACCES) => "run it as root, or with CAP_BPF and CAP_NET_ADMIN",
        Some(libc::EINVAL) => {
            "the engine `live` needs Linux 5.18 or later; `--engine afxdp` works without"
        }
        Some(libc::ENOMEM) => "there is not enough memory for its frames",
        _ => "try `--engine afxdp`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libbpf_rs::ErrorExt;

    #[test]
    fn what_to_do_follows_from_the_kernels_answer() {
        let refused = |errno| EngineError::Attach {
            device: "eth7".to_owned(),
            source: libbpf_rs::Error::from_raw_os_error(errno).context("failed to attach"),
        };
        assert!(refused(libc::EBUSY).to_string().contains("xdp off"));
        assert!(refused(libc::ENOSPC).to_string().contains("numrxqueues"));
        assert!(refused(libc::ENODEV).to_string().contains("no such device"));
        assert!(refused(libc::EPERM).to_string().contains("CAP_BPF"));
        assert!(refused(libc::EPERM).to_string().contains("eth7"));
    }
}
