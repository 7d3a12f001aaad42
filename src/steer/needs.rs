//! What the gears of the direct path need of the kernel, and which kernels AF_XDP may bring down. By its version: the kernel lets
//! nobody ask whether what XDP writes in front of a frame reaches a classifier.

use std::fs;

use super::Gear;

/// A version of Linux.
pub type KernelVersion = (u32, u32);

/// The first kernel with tcx.
const RING: KernelVersion = (6, 6);
/// The first that keeps what XDP writes in front of a frame on its way to a classifier, whatever the device.
const EXPRESS: KernelVersion = (6, 15);

/// The first and the last version that keep a list of AF_XDP's in a sent frame's `skb->cb`, where who receives it writes, too.
const PANICS: [[u32; 3]; 2] = [[6, 16, 8], [6, 17, 10]];

/// What the running kernel lacks for a gear.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not on this kernel ({release}): needs Linux {major}.{minor} ({what})", major = needed.0, minor = needed.1)]
pub struct TooOld {
    needed: KernelVersion,
    what: &'static str,
    release: String,
}

impl Gear {
    /// Whether the running kernel has what this gear needs.
    ///
    /// # Errors
    /// [`TooOld`], when it has not.
    pub fn check_kernel(self) -> Result<(), TooOld> {
        self.check(&running())
    }

    /// The same of a kernel that says this of itself (`uname -r`).
    ///
    /// # Errors
    /// As of [`Gear::check_kernel`].
    pub fn check(self, release: &str) -> Result<(), TooOld> {
        let (needed, what) = match self {
            Self::Ring => (RING, "tcx"),
            Self::Express => (
                EXPRESS,
                "where what XDP writes in front of a frame reaches a classifier",
            ),
        };
        if kernel_version(release) < Some(needed) {
            let release = release.to_owned();
            return Err(TooOld {
                needed,
                what,
                release,
            });
        }
        Ok(())
    }
}

/// Whether the running kernel may panic when AF_XDP sends by copy, as access devices do; then what it says of itself.
pub fn running_may_panic() -> Option<String> {
    Some(running()).filter(|release| may_panic(release))
}

/// The same of one that says this of itself.
pub fn may_panic(release: &str) -> bool {
    let numbers = release.split(|letter: char| !letter.is_ascii_digit());
    let mut numbers = numbers.map_while(|number| number.parse().ok());
    let version = [(); 3].map(|()| numbers.next().unwrap_or(0));
    let [first, last] = PANICS;
    (first..=last).contains(&version)
}

fn running() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

/// The first two numbers of what a kernel says of itself.
pub fn kernel_version(release: &str) -> Option<KernelVersion> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart_by_their_release() {
        for (release, found) in [
            ("6.18.44-custom", Some((6, 18))),
            ("6.9", Some((6, 9))),
            ("7.3.4+deb13-amd64", Some((7, 3))),
            ("5.10-cloud", Some((5, 10))),
            ("6", None),
            ("nonsense", None),
        ] {
            assert_eq!(kernel_version(release), found, "{release}");
        }
    }

    #[test]
    fn each_gear_has_its_first_kernel() {
        let highest = |release| match (Gear::Ring.check(release), Gear::Express.check(release)) {
            (Err(_), Err(_)) => None,
            (Ok(()), Err(_)) => Some(Gear::Ring),
            (Ok(()), Ok(())) => Some(Gear::Express),
            odd => panic!("{release}: {odd:?}"),
        };
        for (release, gear) in [
            ("6.1.0-56-amd64", None),
            ("6.5.13", None),
            ("6.6.0", Some(Gear::Ring)),
            ("6.12.107+deb13-amd64", Some(Gear::Ring)),
            ("6.15.1", Some(Gear::Express)),
            ("7.0", Some(Gear::Express)),
        ] {
            assert_eq!(highest(release), gear, "{release}");
        }
        assert_eq!(
            Gear::Ring.check("6.1.0-56-amd64").unwrap_err().to_string(),
            "not on this kernel (6.1.0-56-amd64): needs Linux 6.6 (tcx)"
        );
    }
}
