//! Hangs: workers that spin for ever, in a process whose other threads go on.
//!
//! The instruction behind the system call in which idle workers sleep (`ppoll`) becomes a jump to itself, in the process's
//! own copy of the page: writes through `/proc/PID/mem` go where the process itself may not write. Whoever wakes up there
//! spins, in user space, until the bytes are put back. No other thread of vxgate sleeps in that function of the C library.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::wait_until;

#[cfg(target_arch = "x86_64")]
const JUMP_TO_ITSELF: [u8; 2] = [0xeb, 0xfe];
#[cfg(target_arch = "aarch64")]
const JUMP_TO_ITSELF: [u8; 4] = 0x1400_0000_u32.to_le_bytes();

/// Workers that spin. Dropping it lets them go on.
#[derive(Debug)]
pub struct Hang {
    memory: File,
    at: u64,
    before: [u8; JUMP_TO_ITSELF.len()],
}

impl Hang {
    /// Hangs the workers of a process: each as soon as it next wakes up.
    pub fn of_workers(pid: u32) -> Self {
        let thread = worker_thread(pid, 0);
        let mut at = None;
        wait_until("the worker sleeps", Duration::from_secs(10), || {
            at = asleep_at(pid, thread);
            at.is_some()
        });
        let at = at.expect("waited for");
        let memory = OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/proc/{pid}/mem"))
            .expect("root may");
        let mut before = [0; JUMP_TO_ITSELF.len()];
        memory.read_exact_at(&mut before, at).expect("it is code");
        memory
            .write_all_at(&JUMP_TO_ITSELF, at)
            .expect("root may write into the code of a process");
        Self { memory, at, before }
    }

    /// Lets the workers go on.
    pub fn end(self) {}
}

impl Drop for Hang {
    fn drop(&mut self) {
        // The process may be gone.
        let _ = self.memory.write_all_at(&self.before, self.at);
    }
}

/// The thread of a worker.
pub fn worker_thread(pid: u32, worker: u32) -> u32 {
    let name = format!("vxgate-w{worker}\n");
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    tasks
        .flatten()
        .find(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm == name))
        .and_then(|task| task.file_name().to_string_lossy().parse().ok())
        .expect("it has that worker")
}

/// Where a thread goes on when it wakes up, if it sleeps in `ppoll`.
fn asleep_at(pid: u32, thread: u32) -> Option<u64> {
    // proc(5): the call's number, its six arguments, the stack pointer, the program counter; or "running".
    let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/syscall")).ok()?;
    let (call, rest) = text.split_once(' ')?;
    let counter = rest.split_ascii_whitespace().last()?;
    let in_ppoll = call.parse() == Ok(libc::SYS_ppoll);
    in_ppoll.then(|| u64::from_str_radix(counter.trim_start_matches("0x"), 16).ok())?
}
