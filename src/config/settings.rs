//! Single settings, judged alike wherever they come from: a flag, the environment, or the file.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::log::{self, LOG_LEVEL_DEFAULT, LogFormat};
use super::{
    ConfigError, DIRECT_FLOWS, DIRECT_PODS, Devices, Direct, EXPRESS_DEFAULT, Listen,
    METRICS_PEERS, NICE_DEFAULT, PodPrograms, Superframes, WORKERS_MAX,
};
use crate::table::{EcnEncap, InnerVlan, PeerCheck, Policy, ReservedBits, UdpChecksumRx};

/// What nice values there are (`setpriority(2)`).
pub(super) const NICE: RangeInclusive<i32> = -20..=19;
/// More VTEPs with metrics of their own than this, and a scrape takes megabytes.
pub(super) const METRICS_PEERS_MAX: u32 = 10_000;
/// Flows of the direct path that there may be room for: with more, looking at each of them once a second would keep those who
/// listen for changes from it for too long.
pub(super) const DIRECT_FLOWS_RANGE: RangeInclusive<u32> = 1024..=1 << 18;
/// Pods' devices that the direct path may look after.
pub(super) const DIRECT_PODS_RANGE: RangeInclusive<u32> = 1..=DIRECT_PODS;

/// What one source says: each setting judged, or none where it is silent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Which vxlan devices to take over.
    pub devices: Option<Devices>,
    /// How many workers.
    pub workers: Option<u32>,
    /// The workers' nice value.
    pub nice: Option<i32>,
    /// Where the control socket goes.
    pub socket: Option<PathBuf>,
    /// Who may send to us.
    pub peer_check: Option<PeerCheck>,
    /// Which reserved bits may be set.
    pub reserved_bits: Option<ReservedBits>,
    /// The outer ECN bits of what is sent.
    pub ecn_encap: Option<EcnEncap>,
    /// Inner VLAN tags.
    pub inner_vlan: Option<InnerVlan>,
    /// Received outer UDP checksums.
    pub udp_checksum_rx: Option<UdpChecksumRx>,
    /// Whether superframes of TCP and UDP cross whole.
    pub superframes: Option<Superframes>,
    /// Where metrics and health are served.
    pub metrics_listen: Option<Listen>,
    /// How many VTEPs have metrics of their own.
    pub metrics_max_peers: Option<u32>,
    /// What is logged.
    pub log_level: Option<String>,
    /// What the lines of the log look like.
    pub log_format: Option<LogFormat>,
    /// Which flows may go the direct path.
    pub direct: Option<Direct>,
    /// Whether flows may go the direct path in XDP, without waking a worker.
    pub express: Option<bool>,
    /// Which programs at pods' devices take what pods send express.
    pub pod_programs: Option<PodPrograms>,
    /// For how many flows of the direct path there is room.
    pub direct_flows_max: Option<u32>,
    /// How many pods' devices the direct path looks after.
    pub direct_pods_max: Option<u32>,
}

impl Settings {
    /// What counts where nobody says anything. How many workers there are, and where the control socket is, depends on the
    /// machine: these stay silent.
    pub fn defaults() -> Self {
        Self {
            devices: Some(Devices::All),
            workers: None,
            nice: Some(NICE_DEFAULT),
            socket: None,
            peer_check: Some(PeerCheck::default()),
            reserved_bits: Some(ReservedBits::default()),
            ecn_encap: Some(EcnEncap::default()),
            inner_vlan: Some(InnerVlan::default()),
            udp_checksum_rx: Some(UdpChecksumRx::default()),
            superframes: Some(Superframes::default()),
            direct: Some(Direct::default()),
            express: Some(EXPRESS_DEFAULT),
            pod_programs: Some(PodPrograms::default()),
            direct_flows_max: Some(DIRECT_FLOWS),
            direct_pods_max: Some(DIRECT_PODS),
            metrics_listen: Some(Listen::default()),
            metrics_max_peers: Some(METRICS_PEERS),
            log_level: Some(LOG_LEVEL_DEFAULT.to_owned()),
            log_format: Some(LogFormat::default()),
        }
    }

    /// These, and where they are silent, what the others say.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            devices: self.devices.or(others.devices),
            workers: self.workers.or(others.workers),
            nice: self.nice.or(others.nice),
            socket: self.socket.or(others.socket),
            peer_check: self.peer_check.or(others.peer_check),
            reserved_bits: self.reserved_bits.or(others.reserved_bits),
            ecn_encap: self.ecn_encap.or(others.ecn_encap),
            inner_vlan: self.inner_vlan.or(others.inner_vlan),
            udp_checksum_rx: self.udp_checksum_rx.or(others.udp_checksum_rx),
            superframes: self.superframes.or(others.superframes),
            metrics_listen: self.metrics_listen.or(others.metrics_listen),
            metrics_max_peers: self.metrics_max_peers.or(others.metrics_max_peers),
            log_level: self.log_level.or(others.log_level),
            log_format: self.log_format.or(others.log_format),
            direct: self.direct.or(others.direct),
            express: self.express.or(others.express),
            pod_programs: self.pod_programs.or(others.pod_programs),
            direct_flows_max: self.direct_flows_max.or(others.direct_flows_max),
            direct_pods_max: self.direct_pods_max.or(others.direct_pods_max),
        }
    }

    /// Takes over what a flag says that takes one word of a few.
    ///
    /// # Errors
    /// Names the flag, and what it may be.
    pub fn set_word(&mut self, key: WordKey, word: &str) -> Result<(), ConfigError> {
        key.set(self, word)
            .map_err(|may_be| flag(key.flag(), &format!("'{word}'"), may_be))
    }

    /// Takes over the devices that `--vxlan` names; all of them when it was not given.
    ///
    /// # Errors
    /// Says which is no device name.
    pub fn set_devices(&mut self, names: Vec<String>) -> Result<(), ConfigError> {
        for name in &names {
            device_name(name).map_err(|may_be| flag("vxlan", &format!("'{name}'"), may_be))?;
        }
        self.devices = (!names.is_empty()).then_some(Devices::Named(names));
        Ok(())
    }

    /// Takes over what `--workers` says.
    ///
    /// # Errors
    /// Says how many there may be.
    pub fn set_workers(&mut self, count: u32) -> Result<(), ConfigError> {
        let judged = workers(u64::from(count));
        self.workers = Some(judged.map_err(|may_be| flag("workers", &count.to_string(), may_be))?);
        Ok(())
    }

    /// Takes over what `--nice` says.
    ///
    /// # Errors
    /// Says what it may be.
    pub fn set_nice(&mut self, value: i32) -> Result<(), ConfigError> {
        let judged = nice(i64::from(value));
        self.nice = Some(judged.map_err(|may_be| flag("nice", &value.to_string(), may_be))?);
        Ok(())
    }

    /// Takes over what `--metrics-listen` says.
    ///
    /// # Errors
    /// Says what it may be.
    pub fn set_metrics_listen(&mut self, text: &str) -> Result<(), ConfigError> {
        let judged = Listen::from_text(text);
        let judged =
            judged.map_err(|may_be| flag("metrics-listen", &format!("'{text}'"), may_be))?;
        self.metrics_listen = Some(judged);
        Ok(())
    }

    /// Takes over what `--metrics-max-peers` says.
    ///
    /// # Errors
    /// Says how many there may be.
    pub fn set_metrics_max_peers(&mut self, count: u32) -> Result<(), ConfigError> {
        let judged = metrics_max_peers(u64::from(count));
        let judged =
            judged.map_err(|may_be| flag("metrics-max-peers", &count.to_string(), may_be))?;
        self.metrics_max_peers = Some(judged);
        Ok(())
    }

    /// Takes over what `--direct-flows-max` says.
    ///
    /// # Errors
    /// Says how many there may be.
    pub fn set_direct_flows_max(&mut self, count: u32) -> Result<(), ConfigError> {
        let judged = direct_flows_max(u64::from(count));
        let judged =
            judged.map_err(|may_be| flag("direct-flows-max", &count.to_string(), may_be))?;
        self.direct_flows_max = Some(judged);
        Ok(())
    }

    /// Takes over what `--direct-pods-max` says.
    ///
    /// # Errors
    /// Says how many there may be.
    pub fn set_direct_pods_max(&mut self, count: u32) -> Result<(), ConfigError> {
        let judged = direct_pods_max(u64::from(count));
        let judged =
            judged.map_err(|may_be| flag("direct-pods-max", &count.to_string(), may_be))?;
        self.direct_pods_max = Some(judged);
        Ok(())
    }

    /// Takes over what `--log-level` says.
    ///
    /// # Errors
    /// Says what it may be.
    pub fn set_log_level(&mut self, level: String) -> Result<(), ConfigError> {
        log::judge(&level).map_err(|may_be| flag("log-level", &format!("'{level}'"), may_be))?;
        self.log_level = Some(level);
        Ok(())
    }

    /// What they make of the data path; the default where they are silent.
    pub fn policy(&self) -> Policy {
        Policy {
            peer_check: self.peer_check.unwrap_or_default(),
            reserved_bits: self.reserved_bits.unwrap_or_default(),
            ecn_encap: self.ecn_encap.unwrap_or_default(),
            inner_vlan: self.inner_vlan.unwrap_or_default(),
            udp_checksum_rx: self.udp_checksum_rx.unwrap_or_default(),
        }
    }
}

fn flag(flag: &'static str, value: &str, why: String) -> ConfigError {
    ConfigError::Flag {
        flag,
        value: value.to_owned(),
        why,
    }
}

/// A setting that is one word of a few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordKey {
    /// Who may send to us.
    PeerCheck,
    /// Which reserved bits may be set.
    ReservedBits,
    /// The outer ECN bits of what is sent.
    EcnEncap,
    /// Inner VLAN tags.
    InnerVlan,
    /// Received outer UDP checksums.
    UdpChecksumRx,
    /// Whether superframes of TCP and UDP cross whole.
    Superframes,
    /// What the lines of the log look like.
    LogFormat,
    /// Which flows may go the direct path.
    Direct,
    /// Which programs at pods' devices take what pods send express.
    PodPrograms,
}

impl WordKey {
    /// The table that it stands in.
    pub(super) const fn table(self) -> &'static str {
        match self {
            Self::Superframes | Self::Direct | Self::PodPrograms => "worker",
            Self::LogFormat => "log",
            _ => "overlay",
        }
    }

    /// Its key in that table.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::PeerCheck => "peer_check",
            Self::ReservedBits => "reserved_bits",
            Self::EcnEncap => "ecn_encap",
            Self::InnerVlan => "inner_vlan",
            Self::UdpChecksumRx => "udp_checksum_rx",
            Self::Superframes => "superframes",
            Self::LogFormat => "format",
            Self::Direct => "direct",
            Self::PodPrograms => "pod_programs",
        }
    }

    /// Its flag, without the dashes in front.
    pub(super) const fn flag(self) -> &'static str {
        match self {
            Self::PeerCheck => "peer-check",
            Self::ReservedBits => "reserved-bits",
            Self::EcnEncap => "ecn-encap",
            Self::InnerVlan => "inner-vlan",
            Self::UdpChecksumRx => "udp-checksum-rx",
            Self::Superframes => "superframes",
            Self::LogFormat => "log-format",
            Self::Direct => "direct",
            Self::PodPrograms => "pod-programs",
        }
    }

    /// The words that it takes.
    fn words(self) -> Vec<&'static str> {
        match self {
            Self::PeerCheck => PeerCheck::ALL.iter().map(|c| c.label()).collect(),
            Self::ReservedBits => vec!["device", "strict", "ignore"],
            Self::EcnEncap => EcnEncap::ALL.iter().map(|c| c.label()).collect(),
            Self::InnerVlan => InnerVlan::ALL.iter().map(|c| c.label()).collect(),
            Self::UdpChecksumRx => UdpChecksumRx::ALL.iter().map(|c| c.label()).collect(),
            Self::Superframes => Superframes::ALL.iter().map(|c| c.label()).collect(),
            Self::LogFormat => LogFormat::ALL.iter().map(|c| c.label()).collect(),
            Self::Direct => Direct::ALL.iter().map(|c| c.label()).collect(),
            Self::PodPrograms => PodPrograms::ALL.iter().map(|c| c.label()).collect(),
        }
    }

    /// Puts what `word` means into the settings.
    ///
    /// # Errors
    /// What may stand there, and which of it was probably meant.
    pub(super) fn set(self, settings: &mut Settings, word: &str) -> Result<(), String> {
        let known = match self {
            Self::PeerCheck => put(&mut settings.peer_check, PeerCheck::from_word(word)),
            Self::ReservedBits => put(&mut settings.reserved_bits, ReservedBits::from_word(word)),
            Self::EcnEncap => put(&mut settings.ecn_encap, EcnEncap::from_word(word)),
            Self::InnerVlan => put(&mut settings.inner_vlan, InnerVlan::from_word(word)),
            Self::UdpChecksumRx => put(
                &mut settings.udp_checksum_rx,
                UdpChecksumRx::from_word(word),
            ),
            Self::Superframes => put(&mut settings.superframes, Superframes::from_word(word)),
            Self::LogFormat => put(&mut settings.log_format, LogFormat::from_word(word)),
            Self::Direct => put(&mut settings.direct, Direct::from_word(word)),
            Self::PodPrograms => put(&mut settings.pod_programs, PodPrograms::from_word(word)),
        };
        if known {
            return Ok(());
        }
        Err(match closest(word, self.words()) {
            Some(meant) => format!("{}; did you mean \"{meant}\"?", self.may_be()),
            None => self.may_be(),
        })
    }

    /// The word that stands in these settings.
    pub(super) fn value(self, settings: &Settings) -> Option<String> {
        let label = match self {
            Self::PeerCheck => settings.peer_check?.label(),
            Self::ReservedBits => return settings.reserved_bits.map(|bits| bits.to_string()),
            Self::EcnEncap => settings.ecn_encap?.label(),
            Self::InnerVlan => settings.inner_vlan?.label(),
            Self::UdpChecksumRx => settings.udp_checksum_rx?.label(),
            Self::Superframes => settings.superframes?.label(),
            Self::LogFormat => settings.log_format?.label(),
            Self::Direct => settings.direct?.label(),
            Self::PodPrograms => settings.pod_programs?.label(),
        };
        Some(label.to_owned())
    }

    /// What it is for, and what each word means.
    pub(super) const fn help(self) -> &'static str {
        match self {
            Self::PeerCheck => {
                "Who may send to us: \"strict\", known VTEPs of the VNI; \"strict-mac\", and only stations that the FDB says \
                 are behind them; \"log\", others, too, but counted and told; \"off\", anybody. Without a UDP checksum over \
                 IPv6 only known VTEPs may."
            }
            Self::ReservedBits => {
                "Reserved VXLAN header bits on receipt: \"device\", as the kernel's device lets through; \"strict\", none may \
                 be set; \"ignore\", all may (RFC 7348 section 5); \"mask:HEX\", these may (16 digits)."
            }
            Self::EcnEncap => {
                "Outer ECN bits for an inner CE: \"kernel\", ECT(0); \"rfc6040\", CE; \"compat\", all bits 0 whatever is \
                 inside."
            }
            Self::InnerVlan => {
                "Inner frames with a VLAN tag, both ways: \"pass\", or \"drop\" (RFC 7348 section 6.1)."
            }
            Self::UdpChecksumRx => {
                "Received outer UDP checksums: \"auto\", verified on hardware underlays; \"verify\", on veth, too, where peers \
                 may send unfinished sums; \"ignore\"."
            }
            Self::Superframes => {
                "Whether superframes of TCP and UDP cross whole, by TAPs of our own: \"auto\", up to the wire where the \
                 kernel cuts them there (Linux 6.17 and later) and the NIC has no zero-copy, elsewhere up to the workers, which cut them; \
                 \"cut\", by the workers everywhere; \"off\", every segment by itself."
            }
            Self::LogFormat => {
                "What the log looks like: \"text\", lines for people; \"json\", an object a line; both on standard error; \
                 \"journald\", entries of systemd's journal, with fields."
            }
            Self::Direct => {
                "Which flows go straight between the underlay and the pods' own devices, without the node's routing, bridge \
                 and filters: \"off\", none; \"flows\", those that the kernel was seen to carry unchanged both ways, until \
                 anything changes that it decides by; \"always\", those that it was seen to carry unchanged one way, until \
                 routes, neighbours or devices change: rules and NetworkPolicies that come later do not stop them. Linux \
                 6.6 and later."
            }
            Self::PodPrograms => {
                "Which programs take what pods send express: \"classifier\", which leave pods their offloads; \"xdp\", XDP in \
                 front of these, where a frame with finished checksums takes half the time, but which takes segmentation \
                 offload from every pod: for pods that send many small frames (AF_XDP, DPDK). It counts for nothing without \
                 a direct path, or without its express gear."
            }
        }
    }

    /// What it may be, as JSON Schema.
    pub(super) fn schema(self) -> Value {
        let words = json!({"enum": self.words()});
        match self {
            Self::ReservedBits => json!({"anyOf": [
                words,
                {"type": "string", "pattern": "^mask:[0-9a-fA-F]{16}$"},
            ]}),
            _ => words,
        }
    }

    /// What it may be, in words.
    pub(super) fn may_be(self) -> String {
        let words: Vec<_> = self.words().iter().map(|w| format!("\"{w}\"")).collect();
        match self {
            // Only this one takes a value.
            Self::ReservedBits => format!(
                "use {}, or \"mask:\" and 16 hexadecimal digits: the bits of the header that may be set",
                words.join(", ")
            ),
            _ => format!("use one of {}", words.join(", ")),
        }
    }
}

fn put<T>(setting: &mut Option<T>, value: Option<T>) -> bool {
    let known = value.is_some();
    if known {
        *setting = value;
    }
    known
}

/// Judges a number of workers.
///
/// # Errors
/// What it may be.
pub(super) fn workers(count: u64) -> Result<u32, String> {
    u32::try_from(count)
        .ok()
        .filter(|count| (1..=WORKERS_MAX).contains(count))
        .ok_or_else(|| format!("use 1 to {WORKERS_MAX}"))
}

/// Judges a number of VTEPs with metrics of their own.
///
/// # Errors
/// What it may be.
pub(super) fn metrics_max_peers(count: u64) -> Result<u32, String> {
    u32::try_from(count)
        .ok()
        .filter(|count| *count <= METRICS_PEERS_MAX)
        .ok_or_else(|| format!("use 0 (none has any) to {METRICS_PEERS_MAX}"))
}

/// Judges for how many flows of the direct path there is to be room.
///
/// # Errors
/// What it may be.
pub(super) fn direct_flows_max(count: u64) -> Result<u32, String> {
    within(&DIRECT_FLOWS_RANGE, count)
}

/// Judges how many pods' devices the direct path is to look after.
///
/// # Errors
/// What it may be.
pub(super) fn direct_pods_max(count: u64) -> Result<u32, String> {
    within(&DIRECT_PODS_RANGE, count)
}

fn within(range: &RangeInclusive<u32>, count: u64) -> Result<u32, String> {
    let judged = u32::try_from(count)
        .ok()
        .filter(|count| range.contains(count));
    judged.ok_or_else(|| format!("use {} to {}", range.start(), range.end()))
}

/// Judges a nice value.
///
/// # Errors
/// What it may be.
pub(super) fn nice(value: i64) -> Result<i32, String> {
    i32::try_from(value)
        .ok()
        .filter(|nice| NICE.contains(nice))
        .ok_or_else(|| {
            let (first, last) = (NICE.start(), NICE.end());
            format!("use {first} (before all other threads) to {last} (after them)")
        })
}

/// Judges a device name: `dev_valid_name` of the kernel.
///
/// # Errors
/// What it may be.
pub(super) fn device_name(name: &str) -> Result<(), String> {
    let good = (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.contains(|c: char| matches!(c, '/' | ':' | '\0') || c.is_whitespace());
    good.then_some(())
        .ok_or_else(|| "a device name has 1 to 15 bytes, without '/', ':' or spaces".to_owned())
}

/// The candidate that differs from what was written by little enough to have been meant.
pub fn closest<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Longer than any key, and the comparison takes quadratic time.
    if written.len() > 64 {
        return None;
    }
    let written = written.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| {
            let plain = candidate.replace('-', "_");
            (strsim::osa_distance(&written, &plain), candidate)
        })
        .filter(|(distance, candidate)| {
            // A third of it mistyped, or all of it there with something behind ("log-only").
            *distance <= (candidate.chars().count() / 3).max(1)
                || (candidate.len() > 2 && written.starts_with(&candidate.replace('-', "_")))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Key;

    fn word_keys() -> impl Iterator<Item = WordKey> {
        Key::ALL.iter().filter_map(|key| match key {
            Key::Word(word) => Some(*word),
            _ => None,
        })
    }

    #[test]
    fn what_was_probably_meant_is_found_and_nothing_else() {
        let words = ["strict", "strict-mac", "log", "off"];
        for (written, meant) in [
            ("srtict", Some("strict")),
            ("STRICT", Some("strict")),
            ("strict_mac", Some("strict-mac")),
            ("log-only", Some("log")),
            ("of", Some("off")),
            ("none", None),
            ("", None),
        ] {
            assert_eq!(closest(written, words), meant, "{written:?}");
        }
        assert_eq!(closest(&"x".repeat(100_000), words), None);
    }

    #[test]
    fn every_word_of_a_choice_is_taken_and_others_are_told_what_may_be() {
        for key in word_keys() {
            for word in key.words() {
                let mut settings = Settings::default();
                assert_eq!(key.set(&mut settings, word), Ok(()));
                assert_ne!(settings, Settings::default(), "{word}");
            }
            let mut settings = Settings::default();
            let may_be = key.set(&mut settings, "nonsense").unwrap_err();
            assert!(key.words().iter().all(|word| may_be.contains(word)));
            assert_eq!(settings, Settings::default());
        }
    }

    #[test]
    fn flags_are_judged_before_anything_starts() {
        let mut settings = Settings::default();
        for workers in [0, WORKERS_MAX + 1] {
            let words = settings.set_workers(workers).unwrap_err().to_string();
            assert_eq!(words, format!("--workers {workers}: use 1 to 64"));
        }
        let words = settings.set_metrics_listen(":9472").unwrap_err();
        let words = words.to_string();
        assert!(
            words.starts_with("--metrics-listen ':9472': use \"auto\"")
                && words.ends_with("did you mean \"127.0.0.1:9472\"?"),
            "{words}"
        );
        let words = settings.set_metrics_max_peers(10_001).unwrap_err();
        assert_eq!(
            words.to_string(),
            "--metrics-max-peers 10001: use 0 (none has any) to 10000"
        );
        for count in [1023, 262_145] {
            let words = settings.set_direct_flows_max(count).unwrap_err();
            assert_eq!(
                words.to_string(),
                format!("--direct-flows-max {count}: use 1024 to 262144")
            );
        }
        for count in [0, 449] {
            let words = settings.set_direct_pods_max(count).unwrap_err();
            assert_eq!(
                words.to_string(),
                format!("--direct-pods-max {count}: use 1 to 448")
            );
        }
        for nice in [-21, 20] {
            let words = settings.set_nice(nice).unwrap_err().to_string();
            assert!(
                words.starts_with(&format!("--nice {nice}: use -20 (")),
                "{words}"
            );
        }
        for name in ["", "a/b", "sixteen-bytes-xx", "a b", "..", "a\0"] {
            let names = vec!["good".to_owned(), name.to_owned()];
            let words = settings.set_devices(names).unwrap_err().to_string();
            assert!(
                words.starts_with(&format!(
                    "--vxlan '{name}': a device name has 1 to 15 bytes"
                )),
                "{words}"
            );
        }
        let words = settings.set_word(WordKey::PeerCheck, "none").unwrap_err();
        assert_eq!(
            words.to_string(),
            "--peer-check 'none': use one of \"strict\", \"strict-mac\", \"log\", \"off\""
        );
        assert_eq!(settings, Settings::default());
        settings.set_devices(Vec::new()).unwrap();
        settings.set_workers(WORKERS_MAX).unwrap();
        settings.set_nice(19).unwrap();
        assert_eq!((settings.devices, settings.workers), (None, Some(64)));
        assert_eq!(settings.nice, Some(19));
    }
}
