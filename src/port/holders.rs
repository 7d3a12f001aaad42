//! Who may have taken a queue: the processes in whose memory the rings of an AF_XDP socket are mapped.
//!
//! The kernel's own list (`XDP_SOCKETS_DIAG`) is often not built in, and names no process. A mapped fill or completion
//! ring is unmistakable in `/proc/PID/maps`: a socket mapped at 0x100000000 or 0x180000000 (`if_xdp.h`). Which queue it
//! serves is not to be seen there.

use std::collections::BTreeMap;
use std::fs;

/// In words, for an error message.
pub(super) fn holders() -> String {
    let mut found: BTreeMap<u32, String> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process that ends now, or is not ours to look at, is left out.
        let Ok(maps) = fs::read(entry.path().join("maps")) else {
            continue;
        };
        // Names of files and processes may be any bytes.
        let maps = String::from_utf8_lossy(&maps);
        if maps.lines().any(is_umem_ring) {
            let name = fs::read(entry.path().join("comm")).unwrap_or_default();
            let name = String::from_utf8_lossy(&name);
            found.insert(pid, name.trim().to_owned());
        }
    }
    describe(&found, std::process::id())
}

/// Whether a line of `/proc/PID/maps` is a fill or completion ring: `ADDRESS PERMS OFFSET DEVICE INODE PATH`.
fn is_umem_ring(line: &str) -> bool {
    let mut fields = line.split_ascii_whitespace();
    let offset = fields
        .nth(2)
        .and_then(|offset| u64::from_str_radix(offset, 16).ok());
    let path = fields.nth(2);
    matches!(offset, Some(0x1_0000_0000 | 0x1_8000_0000))
        && path.is_some_and(|path| path.starts_with("socket:["))
}

fn describe(found: &BTreeMap<u32, String>, own: u32) -> String {
    if found.is_empty() {
        return "no process that can be seen from here has such sockets: one may just have ended"
            .into();
    }
    let names: Vec<String> = found
        .iter()
        .map(|(&pid, name)| {
            if pid == own {
                format!("{name} (this process)")
            } else {
                format!("{name} (process {pid})")
            }
        })
        .collect();
    format!("AF_XDP sockets are open in: {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fill_ring_is_told_from_other_mappings() {
        assert!(is_umem_ring(
            "7f0a1c000000-7f0a1c005000 rw-s 100000000 00:08 24131                      socket:[24131]"
        ));
        assert!(is_umem_ring(
            "7f0a1c000000-7f0a1c005000 rw-s 180000000 00:08 24131                      socket:[24131]"
        ));
        // An AF_PACKET ring, a file, the heap.
        assert!(!is_umem_ring(
            "7f0a1c000000-7f0a1c005000 rw-s 00000000 00:08 24131                      socket:[24131]"
        ));
        assert!(!is_umem_ring(
            "7f0a1c000000-7f0a1c005000 r--p 100000000 fe:00 99                         /data/big"
        ));
        assert!(!is_umem_ring(
            "55d0c0000000-55d0c0021000 rw-p 00000000 00:00 0                          [heap]"
        ));
        assert!(!is_umem_ring(""));
    }

    #[test]
    fn processes_are_named() {
        let found = BTreeMap::from([(7, "suricata".to_owned()), (9, "vxgate".to_owned())]);
        assert_eq!(
            describe(&found, 9),
            "AF_XDP sockets are open in: suricata (process 7), vxgate (this process)"
        );
        assert!(describe(&BTreeMap::new(), 9).starts_with("no process"));
    }
}
