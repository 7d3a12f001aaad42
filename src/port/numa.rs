//! Memory near the device that writes into it: on a machine of several NUMA nodes, an access to another node's memory takes
//! about twice as long, and a NIC's DMA goes over the link between the nodes with every frame.
#![allow(unsafe_code)] // WHY: no safe crate in use offers set_mempolicy(2).

use std::io;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

/// Bits of a node mask, more than any kernel has nodes (`MAX_NUMNODES`: 1024).
const NODES_MAX: usize = 1024;
const WORDS: usize = NODES_MAX / u64::BITS as usize;
/// The kernel takes the mask to be a bit shorter than it is told (`get_nodes` in `mempolicy.c`).
const MASK_BITS: usize = NODES_MAX + 1;
/// `MPOL_F_NODE | MPOL_F_ADDR`: the node of a page (`linux/mempolicy.h`).
const NODE_OF_ADDRESS: libc::c_ulong = 1 | 2;

/// As long as this lives, memory that the thread asks for (UMEM, what the kernel allocates for its rings, tables) comes from
/// one node as long as that has any. Threads that it starts meanwhile keep to that for good.
#[derive(Debug)]
pub struct Near {
    before: Policy,
    /// The policy is the thread's: it must be the same that gives it back.
    _thread: PhantomData<*const ()>,
}

impl Near {
    /// Prefers this node.
    ///
    /// # Errors
    /// When there is no such node, the process may not use it (cpuset), or may not say so (seccomp), and when the kernel knows
    /// of no nodes at all.
    pub fn node(node: u32) -> io::Result<Self> {
        let before = Policy::current()?;
        let mut mask = [0; WORDS];
        let word = usize::try_from(node / u64::BITS).unwrap_or(usize::MAX);
        let word = mask.get_mut(word);
        *word.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))? = 1 << (node % u64::BITS);
        let preferred = Policy {
            mode: libc::MPOL_PREFERRED,
            mask,
        };
        preferred.set()?;
        Ok(Self {
            before,
            _thread: PhantomData,
        })
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        // It was in force before; were it refused now, memory would be no further away than it is.
        let _ = self.before.set();
    }
}

/// Where a thread's memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Policy {
    mode: libc::c_int,
    mask: [u64; WORDS],
}

impl Policy {
    /// The calling thread's.
    fn current() -> io::Result<Self> {
        let mut policy = Self {
            mode: 0,
            mask: [0; WORDS],
        };
        // SAFETY: both pointers are to locals, and the mask has the bits that the kernel is told of.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_get_mempolicy,
                &raw mut policy.mode,
                policy.mask.as_mut_ptr(),
                MASK_BITS,
                ptr::null::<u8>(),
                0 as libc::c_ulong,
            )
        };
        checked(answer).map(|()| policy)
    }

    /// Makes it the calling thread's.
    fn set(&self) -> io::Result<()> {
        // SAFETY: the kernel reads the mask, which has the bits that it is told of, and touches no memory of ours.
        checked(unsafe {
            libc::syscall(
                libc::SYS_set_mempolicy,
                self.mode,
                self.mask.as_ptr(),
                MASK_BITS,
            )
        })
    }
}

/// The node that a page of ours is on; none when the kernel does not tell.
pub(super) fn node_of(address: NonNull<u8>) -> Option<u32> {
    let mut node: libc::c_int = -1;
    // SAFETY: the kernel writes the node to a local, and only looks up the page of the address, which may be any.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            &raw mut node,
            ptr::null_mut::<u64>(),
            0_usize,
            address.as_ptr(),
            NODE_OF_ADDRESS,
        )
    };
    checked(answer).ok()?;
    u32::try_from(node).ok()
}

fn checked(answer: libc::c_long) -> io::Result<()> {
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ChunkSize, Umem, UmemConfig};
    use super::*;

    /// The kernel's word for a node that every machine has on which it knows of any.
    fn first_node() -> Option<u32> {
        let online = std::fs::read_to_string("/sys/devices/system/node/online").ok()?;
        let first = online.trim().split([',', '-']).next()?;
        first.parse().ok()
    }

    #[test]
    fn memory_comes_from_the_node_and_the_policy_is_given_back() {
        let Some(node) = first_node() else { return };
        let before = Policy::current().unwrap();
        let near = Near::node(node).unwrap();
        let preferred = Policy::current().unwrap();
        assert_eq!(preferred.mode, libc::MPOL_PREFERRED);
        assert_eq!(preferred.mask[node as usize / 64], 1 << (node % 64));
        let umem = Umem::new(UmemConfig {
            chunk: ChunkSize::K2,
            frames: 8,
            lock: false,
        });
        assert_eq!(umem.unwrap().node(), Some(node));
        let child = std::thread::spawn(|| Policy::current().unwrap());
        assert_eq!(child.join().unwrap(), preferred, "threads inherit it");
        drop(near);
        assert_eq!(Policy::current().unwrap(), before);
    }

    #[test]
    fn a_node_that_does_not_exist_is_refused_and_changes_nothing() {
        if first_node().is_none() {
            return;
        }
        let before = Policy::current().unwrap();
        for node in [1023, 1024, u32::MAX] {
            let refused = Near::node(node).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EINVAL), "{node}");
        }
        assert_eq!(Policy::current().unwrap(), before);
    }
}
