//! How much memory this process holds.

use std::fs;
use std::io;

/// Resident memory in bytes, by `/proc/self/status` (proc_pid_status(5)). What BPF maps take belongs to the kernel, and is not
/// in it.
///
/// # Errors
/// Where `/proc` is not mounted, or says something else than expected.
pub fn resident_bytes() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    parse(&text).ok_or_else(|| {
        let why = "/proc/self/status has no line `VmRSS: NUMBER kB`";
        io::Error::new(io::ErrorKind::InvalidData, why)
    })
}

fn parse(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read() {
        assert_eq!(
            parse("VmHWM:\t    9 kB\nVmRSS:\t    1234 kB\n"),
            Some(1234 * 1024)
        );
        assert_eq!(parse("VmRSS:\t1234\n"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn this_process_holds_some_and_not_all() {
        assert!((100_000..1 << 40).contains(&resident_bytes().unwrap()));
    }
}
