//! Sockets of this network namespace, as `/proc` lists them: who has a UDP port, and who holds a name.

use std::fs;

/// The lines of a table of this thread's network namespace. Names in it are anybody's, and may be any bytes.
fn table(name: &str) -> String {
    let bytes = fs::read(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A process that has a UDP port, in words; none when no process has it. The kernel's own sockets are nobody's.
pub(super) fn holder_of_port(port: u16, ipv6: bool) -> Option<String> {
    let text = table(if ipv6 { "udp6" } else { "udp" });
    let inodes = text.lines().filter_map(|line| inode_at_port(line, port));
    inodes.into_iter().find_map(|inode| {
        let pid = process_of(inode)?;
        let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name = String::from_utf8_lossy(&name);
        Some(format!("{} (process {pid})", name.trim()))
    })
}

/// The inode of a socket that a line of `/proc/net/udp` tells of, if it is at this port.
fn inode_at_port(line: &str, port: u16) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace();
    let (_, local) = fields.nth(1)?.rsplit_once(':')?;
    let at = u16::from_str_radix(local, 16).ok()?;
    // sl, local_address; then rem_address, st, queues, timers, retransmits, uid, timeout, inode.
    let inode = fields.nth(7)?.parse().ok()?;
    (at == port).then_some(inode)
}

/// The process that holds a name of the abstract namespace; `Some(None)` when it cannot be seen from here.
pub(super) fn holder_of_name(name: &str) -> Option<Option<i32>> {
    let text = table("unix");
    let inode = text.lines().find_map(|line| inode_of_name(line, name))?;
    Some(process_of(inode))
}

/// The inode of a socket that a line of `/proc/net/unix` tells of, if it has this abstract name.
fn inode_of_name(line: &str, name: &str) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace();
    // Num, RefCount, Protocol, Flags, Type, St, Inode, Path
    let inode = fields.nth(6)?.parse().ok()?;
    let path = fields.next()?.strip_prefix('@')?;
    (path == name).then_some(inode)
}

/// The process that has a socket open.
fn process_of(inode: u64) -> Option<i32> {
    let target = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        // A process that ends now, or is not ours to look at, is left out.
        let mut open = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        open.any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == &*target))
            .then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    #[test]
    fn lines_of_proc_are_read_by_their_fields() {
        let line = "  501: 00000000:2118 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 24131 2 0";
        assert_eq!(inode_at_port(line, 8472), Some(24131));
        assert_eq!(inode_at_port(line, 8473), None);
        assert_eq!(inode_at_port("  sl  local_address rem_address", 8472), None);
        let line = "0000000000000000: 00000002 00000000 00010000 0001 01 88 @vxgate/device/7";
        assert_eq!(inode_of_name(line, "vxgate/device/7"), Some(88));
        assert_eq!(inode_of_name(line, "vxgate/device/77"), None);
        assert_eq!(inode_of_name("Num RefCount", "vxgate/device/7"), None);
    }

    #[test]
    fn whoever_has_a_port_or_a_name_is_found() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let own = std::process::id();
        let holder = holder_of_port(port, false).unwrap();
        assert!(holder.ends_with(&format!("(process {own})")), "{holder}");
        drop(socket);
        let name = format!("vxgate/test/{own}");
        assert_eq!(holder_of_name(&name), None);
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _held = UnixDatagram::bind_addr(&address).unwrap();
        assert_eq!(holder_of_name(&name), Some(i32::try_from(own).ok()));
    }

    #[test]
    fn a_name_of_any_bytes_hides_no_other() {
        let own = std::process::id();
        let odd = [b"\xff\xfe", own.to_string().as_bytes()].concat();
        let odd = SocketAddr::from_abstract_name(odd).unwrap();
        let _odd = UnixDatagram::bind_addr(&odd).unwrap();
        let name = format!("vxgate/test/odd/{own}");
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _held = UnixDatagram::bind_addr(&address).unwrap();
        assert_eq!(holder_of_name(&name), Some(i32::try_from(own).ok()));
    }
}
