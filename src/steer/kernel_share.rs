//! The frames of each vxlan device that stay with the kernel because only the kernel brings them to where they go.
//!
//! `bpf/vxgate.bpf.c` looks them up in one of two lists, of which a usual device has neither. Within a list addresses come
//! and go one by one; from one kind of list to the other it takes one store, after which the kernel waits for the programs
//! that still read the old list (`maybe_wait_bpf_programs`). So a frame is always judged by the old share or by the new one.
//!
//! When a list cannot be had (more addresses than [`ADDRESSES_MAX`], no memory), the whole device is left to the kernel, by
//! an empty list that was made beforehand.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, libbpf_sys};

use super::copy::Copy;
use super::{DevicePlan, Error};
use crate::fault;
use crate::table::KernelShare;
use crate::wire::MacAddr;

/// How many addresses name a share at most: some 10 MB of the kernel's memory.
pub const ADDRESSES_MAX: usize = 1 << 17;

/// `enum share_kind`.
const KERNEL_ONLY: u32 = 0;
const ALL_BUT: u32 = 1;
/// An address, and two zero bytes.
const KEY_LEN: usize = 8;

/// The kernel's shares of a session's vxlan devices, to be set by whoever knows the destinations. Outlives the programs
/// harmlessly.
#[derive(Clone)]
pub struct KernelShares {
    devices: Arc<Vec<Device>>,
}

struct Device {
    ifindex: u32,
    name: String,
    /// The two places that the programs look into.
    places: MapHandle,
    /// In the place [`ALL_BUT`] it leaves everything to the kernel. Never written to.
    empty: MapHandle,
    state: Mutex<State>,
}

/// What the programs were told.
#[derive(Default)]
struct State {
    share: KernelShare,
    /// What the programs were told may not be all that they have: they have to be told anew, whatever it is.
    uncertain: bool,
    /// The list that holds the share's addresses; none while a place is empty, or has the empty list.
    list: Option<MapHandle>,
    /// Why everything is left to the kernel, which was not asked for.
    trouble: Option<String>,
}

impl KernelShares {
    /// Every frame is the workers' until [`KernelShares::set`] says otherwise.
    pub(super) fn new<'a>(
        devices: impl Iterator<Item = (&'a DevicePlan, &'a Copy)>,
    ) -> Result<Self, Error> {
        let devices = devices.map(|(plan, copy)| {
            Ok(Device {
                ifindex: plan.ifindex,
                name: plan.name.clone(),
                places: copy.kernel_share()?,
                empty: new_list(1).map_err(|source| failed(&plan.name, source))?,
                state: Mutex::default(),
            })
        });
        Ok(Self {
            devices: Arc::new(devices.collect::<Result<_, Error>>()?),
        })
    }

    /// Leaves the frames of this share to the kernel, of the vxlan device `ifindex`; all of its frames, when that fails or
    /// the share has too many names. Whether it went well. A device that is not in the plan has no frames here.
    pub fn set(&self, ifindex: u32, share: &KernelShare) -> bool {
        let mut devices = self.devices.iter();
        let device = devices.find(|other| other.ifindex == ifindex);
        device.is_none_or(|device| device.set(share))
    }

    /// What of a device's frames is left to the kernel now, in words for people.
    pub fn words(&self, ifindex: u32) -> Option<String> {
        let mut devices = self.devices.iter();
        let device = devices.find(|other| other.ifindex == ifindex)?;
        Some(device.lock().share.to_string())
    }

    /// Why devices are left to the kernel as a whole although it was not asked for: their names, and words for people.
    pub fn troubles(&self) -> Vec<(String, String)> {
        let devices = self.devices.iter();
        let troubles = devices.filter_map(|device| {
            let trouble = device.lock().trouble.clone()?;
            Some((device.name.clone(), trouble))
        });
        troubles.collect()
    }
}

impl fmt::Debug for KernelShares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.devices.iter().map(|device| &device.name);
        f.debug_list().entries(names).finish()
    }
}

impl Device {
    fn set(&self, share: &KernelShare) -> bool {
        let mut state = self.lock();
        let count = share.addresses().len();
        let outcome = if count > ADDRESSES_MAX {
            Err(format!(
                "{count} addresses would have to be told apart, more than {ADDRESSES_MAX}"
            ))
        } else {
            let told = self.tell(&mut state, share);
            told.map_err(|source| fault::line(&failed(&self.name, source)))
        };
        let trouble = match outcome {
            Ok(()) => None,
            Err(why) => Some(match self.leave_everything(&mut state) {
                Ok(()) => format!("all of its frames are left to the kernel: {why}"),
                Err(error) => format!("{why}; nor could everything be left to the kernel: {error}"),
            }),
        };
        // Not each time that it has another number in it: the table may change many times a second.
        match (&state.trouble, &trouble) {
            (None, Some(why)) => tracing::warn!(device = self.name, "{why}"),
            (Some(_), None) => {
                tracing::info!(device = self.name, "its frames are told apart again")
            }
            _ => {}
        }
        state.trouble = trouble;
        state.trouble.is_none()
    }

    /// From the share that was told before to this one, a frame being judged by one of them at any moment. After a failure
    /// the programs have something in between.
    fn tell(&self, state: &mut State, share: &KernelShare) -> Result<(), libbpf_rs::Error> {
        if *share == state.share && !state.uncertain {
            return Ok(());
        }
        state.uncertain = true;
        let same_kind = place_of(share) == place_of(&state.share);
        if let Some(list) = state.list.as_ref().filter(|_| same_kind) {
            change(list, state.share.addresses(), share.addresses())?;
            if share.addresses().is_empty() {
                self.put_alone(share, None)?;
                state.list = None;
            }
        } else if share.addresses().is_empty() {
            self.put_alone(share, None)?;
            state.list = None;
        } else {
            let list = new_list(ADDRESSES_MAX as u32)?;
            insert(&list, share.addresses())?;
            self.put_alone(share, Some(&list))?;
            state.list = Some(list);
        }
        state.share = share.clone();
        state.uncertain = false;
        Ok(())
    }

    /// The way out when something fails: it takes no memory.
    fn leave_everything(&self, state: &mut State) -> Result<(), libbpf_rs::Error> {
        if state.share == KernelShare::EVERYTHING && !state.uncertain {
            return Ok(());
        }
        (state.list, state.uncertain) = (None, true); // Should the next line fail.
        self.put(ALL_BUT, Some(&self.empty))?;
        (state.share, state.uncertain) = (KernelShare::EVERYTHING, false);
        Ok(())
    }

    /// Puts a share's list (or the empty one) into its place, and nothing into the other. In the order in which the one
    /// that wins is there as long as it is needed.
    fn put_alone(
        &self,
        share: &KernelShare,
        list: Option<&MapHandle>,
    ) -> Result<(), libbpf_rs::Error> {
        match share {
            KernelShare::AllBut(_) => {
                self.put(ALL_BUT, Some(list.unwrap_or(&self.empty)))?;
                self.put(KERNEL_ONLY, None)
            }
            KernelShare::Only(_) => {
                self.put(KERNEL_ONLY, list)?;
                self.put(ALL_BUT, None)
            }
        }
    }

    fn put(&self, place: u32, list: Option<&MapHandle>) -> Result<(), libbpf_rs::Error> {
        let key = place.to_ne_bytes();
        match list {
            Some(list) => {
                let fd = list.as_fd().as_raw_fd().to_ne_bytes();
                self.places.update(&key, &fd, MapFlags::ANY)
            }
            None => match self.places.delete(&key) {
                // Nothing was there.
                Err(error) if error.kind() == libbpf_rs::ErrorKind::NotFound => Ok(()),
                outcome => outcome,
            },
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of whoever held it leaves the state as it was told before, which the next share is compared with.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place_of(share: &KernelShare) -> u32 {
    match share {
        KernelShare::Only(_) => KERNEL_ONLY,
        KernelShare::AllBut(_) => ALL_BUT,
    }
}

fn failed(device: &str, source: libbpf_rs::Error) -> Error {
    Error::Map {
        what: format!("the frames of {device} that are the kernel's"),
        source,
    }
}

/// A list like the one in the places' declaration, with room for `addresses_max`.
fn new_list(addresses_max: u32) -> Result<MapHandle, libbpf_rs::Error> {
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        map_flags: libbpf_sys::BPF_F_NO_PREALLOC,
        ..Default::default()
    };
    let (key_len, value_len) = (KEY_LEN as u32, 1);
    MapHandle::create(
        MapType::Hash,
        Some("kernel_share"),
        key_len,
        value_len,
        addresses_max,
        &options,
    )
}

/// Turns the addresses of a list, `from`, into `to`; both are sorted. Whichever comes first, an address is in the list that
/// is in both.
fn change(list: &MapHandle, from: &[MacAddr], to: &[MacAddr]) -> Result<(), libbpf_rs::Error> {
    let without = |all: &[MacAddr], others: &[MacAddr]| {
        let all = all.iter().copied();
        all.filter(|mac| others.binary_search(mac).is_err())
            .collect::<Vec<_>>()
    };
    let gone = without(from, to);
    // First, so that there is room.
    if !gone.is_empty() {
        list.delete_batch(
            &keys(&gone),
            gone.len() as u32,
            MapFlags::ANY,
            MapFlags::ANY,
        )?;
    }
    insert(list, &without(to, from))
}

fn insert(list: &MapHandle, macs: &[MacAddr]) -> Result<(), libbpf_rs::Error> {
    if macs.is_empty() {
        return Ok(());
    }
    let (count, values) = (macs.len() as u32, vec![1; macs.len()]);
    list.update_batch(&keys(macs), &values, count, MapFlags::ANY, MapFlags::ANY)
}

fn keys(macs: &[MacAddr]) -> Vec<u8> {
    let keys = macs
        .iter()
        .map(|MacAddr([a, b, c, d, e, f])| [*a, *b, *c, *d, *e, *f, 0, 0]);
    keys.collect::<Vec<[u8; KEY_LEN]>>().concat()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use libbpf_rs::ProgramInput;

    use super::super::copy::tests::{TC_ACT_REDIRECT, TCX_NEXT, loaded_settings, pretend_alive};
    use super::super::copy::{COUNTS_EGRESS, Settings};
    use super::super::{AccessLink, SteerCounters};
    use super::*;
    use crate::stats::PassReason;
    use crate::wire::Vni;

    const DEVICE: u32 = 7;

    /// The programs of a device whose worker lives, and its shares.
    struct Steered {
        copy: Copy,
        shares: KernelShares,
    }

    fn steered() -> Steered {
        let settings = Settings {
            device: DEVICE,
            ..loaded_settings()
        };
        let copy = Copy::load(&settings, None).unwrap();
        pretend_alive(&copy, u64::MAX);
        let end = |ifindex, name: &str| AccessLink {
            ifindex,
            name: name.to_owned(),
            mac: MacAddr::ZERO,
        };
        let plan = DevicePlan {
            ifindex: DEVICE,
            name: "vx7".to_owned(),
            mtu: 1450,
            vni: Vni::new(7).unwrap(),
            local: "192.0.2.1".parse().unwrap(),
            group: None,
            underlay_ifindex: 3,
            port: 8472,
            gbp: false,
            kernel_side: end(8, "vxg0"),
            worker_side: end(9, "vxg1"),
            access_tap: None,
        };
        let shares = KernelShares::new([(&plan, &copy)].into_iter()).unwrap();
        Steered { copy, shares }
    }

    impl Steered {
        fn counters(&self) -> SteerCounters {
            self.copy.counters(COUNTS_EGRESS, DEVICE).unwrap()
        }

        /// What the vxlan device's program does with a frame to this address: whether the kernel keeps it.
        fn is_kernels(&self, mac: MacAddr) -> bool {
            let mut frame = [0; 60];
            frame[..6].copy_from_slice(&mac.0);
            let mut progs = self.copy.object.progs_mut();
            let program = progs.find(|program| program.name() == "vxgate_egress");
            let output = program
                .unwrap()
                .test_run(ProgramInput {
                    data_in: Some(&frame),
                    ..ProgramInput::default()
                })
                .unwrap();
            match output.return_value {
                TCX_NEXT => true,
                TC_ACT_REDIRECT => false,
                other => panic!("neither passed nor steered: {other}"),
            }
        }

        fn set(&self, share: &KernelShare) {
            self.shares.set(DEVICE, share);
        }
    }

    fn mac(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    fn macs(last: &[u8]) -> Vec<MacAddr> {
        last.iter().copied().map(mac).collect()
    }

    #[test]
    fn frames_of_the_share_are_passed_and_counted_and_all_others_steered() {
        let steered = steered();
        let reason = PassReason::KernelRoute as usize;
        let counted = || {
            let counters = steered.counters();
            assert_eq!(
                counters.passed.iter().sum::<u64>(),
                counters.passed[reason],
                "for no other reason"
            );
            (counters.passed[reason], counters.steered)
        };
        for last in 0..8 {
            assert!(!steered.is_kernels(mac(last)), "nothing was said");
        }
        assert_eq!(counted(), (0, 8));
        steered.set(&KernelShare::Only(macs(&[2, 5])));
        for last in 0..8 {
            assert_eq!(steered.is_kernels(mac(last)), last == 2 || last == 5);
        }
        assert_eq!(counted(), (2, 14));
        steered.set(&KernelShare::AllBut(macs(&[2, 5])));
        for last in 0..8 {
            assert_eq!(steered.is_kernels(mac(last)), last != 2 && last != 5);
        }
        assert_eq!(counted(), (8, 16));
        steered.set(&KernelShare::EVERYTHING);
        assert!(steered.is_kernels(mac(2)) && steered.is_kernels(MacAddr([0xff; 6])));
        // A device that is not ours is not heard of.
        steered.shares.set(DEVICE + 1, &KernelShare::default());
        assert!(steered.is_kernels(mac(2)));
        steered.set(&KernelShare::default());
        assert!(!steered.is_kernels(mac(2)) && !steered.is_kernels(MacAddr([0xff; 6])));
        assert!(steered.shares.troubles().is_empty());
        assert_eq!(steered.shares.words(DEVICE).unwrap(), "no frames");
        assert_eq!(steered.shares.words(DEVICE + 1), None);
    }

    #[test]
    fn every_share_follows_every_other() {
        let steered = steered();
        let only = |last: &[u8]| KernelShare::Only(macs(last));
        let all_but = |last: &[u8]| KernelShare::AllBut(macs(last));
        let shares = [
            only(&[]),
            only(&[1, 3, 5]),
            only(&[2, 3, 4]),
            all_but(&[]),
            all_but(&[1, 3, 5]),
            all_but(&[2, 3, 4]),
        ];
        for from in &shares {
            for to in &shares {
                for share in [from, to] {
                    steered.set(share);
                    for last in 0..7 {
                        assert_eq!(
                            steered.is_kernels(mac(last)),
                            share.contains(mac(last)),
                            "{last}: {from:?} to {to:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn with_too_many_names_the_device_is_the_kernels_and_says_so_until_there_are_fewer() {
        let steered = steered();
        let many = |count: usize| {
            (0..count as u32)
                .map(|n| {
                    let [a, b, c, d] = n.to_be_bytes();
                    MacAddr([2, 1, a, b, c, d])
                })
                .collect::<Vec<_>>()
        };
        let most = many(ADDRESSES_MAX);
        for share in [KernelShare::Only, KernelShare::AllBut] {
            steered.set(&share(most.clone()));
            let listed_is_kernels = share(Vec::new()).is_nothing();
            for mac in [most[0], most[ADDRESSES_MAX / 2], most[ADDRESSES_MAX - 1]] {
                assert_eq!(steered.is_kernels(mac), listed_is_kernels);
            }
            assert_eq!(steered.is_kernels(mac(1)), !listed_is_kernels);
            assert!(steered.shares.troubles().is_empty());

            steered.set(&share(many(ADDRESSES_MAX + 1)));
            assert!(steered.is_kernels(mac(1)) && steered.is_kernels(most[0]));
            let [(device, why)] = &steered.shares.troubles()[..] else {
                panic!("one device is left to the kernel")
            };
            assert_eq!(device, "vx7");
            assert!(
                why.contains("all of its frames") && why.contains("131073 addresses"),
                "{why}"
            );
            steered.set(&share(macs(&[1])));
            assert_eq!(steered.is_kernels(mac(1)), listed_is_kernels);
            assert_eq!(steered.is_kernels(mac(2)), !listed_is_kernels);
            assert!(steered.shares.troubles().is_empty());
        }
    }

    /// Both kinds of list change under a program that runs all the while.
    #[test]
    fn what_is_in_both_shares_is_the_kernels_at_every_moment_and_what_is_in_none_never() {
        const CHANGES: usize = 24;
        let steered = steered();
        let shares = [
            KernelShare::Only(macs(&[1, 2])),
            KernelShare::Only(macs(&[1, 3])),
            KernelShare::AllBut(macs(&[4, 5])),
            KernelShare::AllBut(macs(&[2, 4])),
        ];
        steered.set(&shares[0]);
        let changer = steered.shares.clone();
        let done = AtomicBool::new(false);
        let mut judged = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for step in 0..CHANGES {
                    changer.set(DEVICE, &shares[step % shares.len()]);
                }
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                assert!(steered.is_kernels(mac(1)), "in all of them");
                assert!(!steered.is_kernels(mac(4)), "in none of them");
                judged += 1;
            }
        });
        assert!(judged > CHANGES, "{judged} looks were taken");
    }
}
