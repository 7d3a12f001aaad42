//! The flags that set what the configuration file sets, too, each with its environment variable: `run` starts with them, and
//! `config` tells what they come to.

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};

use super::SocketArgument;
use crate::config::{ConfigError, Key, Settings, WordKey};

/// Flags, one for each key of the file.
#[derive(Debug, Args)]
pub(super) struct SettingFlags {
    /// Take over only this vxlan device; may be given more than once [default: all that can be taken over].
    #[arg(long, value_name = "NAME", env = "VXGATE_VXLAN", value_delimiter = ' ')]
    vxlan: Vec<String>,
    /// Workers, one core each [default: one per core that every underlay device has a receive queue for].
    #[arg(long, value_name = "N", env = "VXGATE_WORKERS")]
    workers: Option<u32>,
    /// Whether superframes of TCP and UDP cross whole, by TAPs of our own: auto (up to the wire where the kernel cuts them
    /// there, Linux 6.17 and later, and the NIC has no zero-copy; elsewhere up to the workers, which cut them), cut (by the
    /// workers everywhere), off [default: auto].
    #[arg(long, value_name = "WORD", env = "VXGATE_SUPERFRAMES")]
    superframes: Option<String>,
    /// Which flows go straight between the underlay and the pods' own devices, without the node's routing, bridge and
    /// filters: off (none), flows (those that the kernel was seen to carry unchanged both ways, until anything changes that it
    /// decides by), always (those that it was seen to carry unchanged one way, until routes, neighbours or devices change:
    /// rules and NetworkPolicies that come later do not stop them). Linux 6.6 and later [default: off].
    #[arg(long, value_name = "WORD", env = "VXGATE_DIRECT")]
    direct: Option<String>,
    /// Whether flows go the direct path in XDP, which needs no worker for a frame, and Linux 6.15; without it they still go it
    /// through the workers [default: true].
    #[arg(long, value_name = "BOOL", env = "VXGATE_EXPRESS")]
    express: Option<bool>,
    /// Which programs take what pods send express: classifier (which leave pods their offloads), xdp (XDP in front of these,
    /// where a frame with finished checksums takes half the time, but which takes segmentation offload from every pod). It counts
    /// for nothing without a direct path, or without its express gear [default: classifier].
    #[arg(long, value_name = "WORD", env = "VXGATE_POD_PROGRAMS")]
    pod_programs: Option<String>,
    /// For how many flows the direct path has room, 1024 to 262144: with half as many, next to none finds no place, and goes the
    /// node's own path. 65536 take some 40 MB of the kernel's memory and 22 of ours [default: 65536].
    #[arg(long, value_name = "N", env = "VXGATE_DIRECT_FLOWS_MAX")]
    direct_flows_max: Option<u32>,
    /// How many pods' devices the direct path looks after, 1 to 448, and 298 at most with XDP at the pods: those that came
    /// first. The flows of others go the node's own path [default: 448].
    #[arg(long, value_name = "N", env = "VXGATE_DIRECT_PODS_MAX")]
    direct_pods_max: Option<u32>,
    /// The workers' nice value, -20 to 19. At -20 they come before the kernel's threads on their cores, which otherwise may
    /// hold them up under overload; values below 0 need CAP_SYS_NICE, without which they run as all do [default: -20].
    #[arg(
        long,
        value_name = "N",
        env = "VXGATE_NICE",
        allow_negative_numbers = true
    )]
    nice: Option<i32>,
    #[command(flatten)]
    overlay: Overlay,
    #[command(flatten)]
    metrics: Metrics,
    #[command(flatten)]
    socket: SocketArgument,
    #[command(flatten)]
    log: LogFlags,
}

/// What is logged, and how: the keys of `[log]` in the file.
#[derive(Debug, Args)]
struct LogFlags {
    /// What to log: error, warn, info, debug, trace, off; or directives by module such as `info,vxgate::control=debug`
    /// [default: info].
    #[arg(long, value_name = "LEVEL", env = "VXGATE_LOG_LEVEL", alias = "log")]
    log_level: Option<String>,
    /// What the log looks like: text (for people), json (an object a line), both on standard error; journald (entries of
    /// systemd's journal, with fields) [default: text].
    #[arg(long, value_name = "WORD", env = "VXGATE_LOG_FORMAT")]
    log_format: Option<String>,
}

/// What the data path does where the kernel and the RFC leave a choice: the keys of `[overlay]` in the file.
#[derive(Debug, Args)]
struct Overlay {
    /// Who may send to us: strict (known VTEPs of the VNI), strict-mac (and only stations that the FDB says are behind
    /// them), log (others, too, but counted and told), off (anybody). Without a UDP checksum over IPv6 only known VTEPs may
    /// [default: strict].
    #[arg(long, value_name = "WORD", env = "VXGATE_PEER_CHECK")]
    peer_check: Option<String>,
    /// Reserved VXLAN header bits on receipt: device (as the kernel's device lets through), strict (none), ignore (all),
    /// mask:HEX (these; 16 digits) [default: device].
    #[arg(long, value_name = "WORD", env = "VXGATE_RESERVED_BITS")]
    reserved_bits: Option<String>,
    /// Outer ECN bits for an inner CE: kernel (ECT(0)), rfc6040 (CE), compat (all bits 0 whatever is inside)
    /// [default: kernel].
    #[arg(long, value_name = "WORD", env = "VXGATE_ECN_ENCAP")]
    ecn_encap: Option<String>,
    /// Inner frames with a VLAN tag, both ways: pass, drop [default: pass].
    #[arg(long, value_name = "WORD", env = "VXGATE_INNER_VLAN")]
    inner_vlan: Option<String>,
    /// Received outer UDP checksums: auto (verified on hardware underlays), verify, ignore [default: auto].
    #[arg(long, value_name = "WORD", env = "VXGATE_UDP_CHECKSUM_RX")]
    udp_checksum_rx: Option<String>,
}

/// Where scrapers and probes find the daemon: the keys of `[metrics]` in the file.
#[derive(Debug, Args)]
struct Metrics {
    /// Where to serve /metrics (Prometheus), /healthz and /readyz over HTTP: auto (a UNIX socket beside the control socket,
    /// NAME.metrics.sock, for its owner and group), off, ADDRESS:PORT (for all who can connect: nobody is asked who they
    /// are), or the path of another UNIX socket [default: auto].
    #[arg(long, value_name = "WHERE", env = "VXGATE_METRICS_LISTEN")]
    metrics_listen: Option<String>,
    /// How many VTEPs have metrics of their own, 0 to 10000: of their paths those with the narrowest, of what is counted by peer
    /// those with the most frames [default: 512].
    #[arg(long, value_name = "N", env = "VXGATE_METRICS_MAX_PEERS")]
    metrics_max_peers: Option<u32>,
}

impl SettingFlags {
    /// What flags and environment say.
    ///
    /// # Errors
    /// Names the flag whose value cannot be.
    pub(super) fn given(&self) -> Result<Settings, ConfigError> {
        let mut given = Settings {
            socket: self.socket.socket.clone(),
            express: self.express,
            ..Settings::default()
        };
        given.set_devices(self.vxlan.clone())?;
        if let Some(count) = self.workers {
            given.set_workers(count)?;
        }
        if let Some(nice) = self.nice {
            given.set_nice(nice)?;
        }
        if let Some(count) = self.direct_flows_max {
            given.set_direct_flows_max(count)?;
        }
        if let Some(count) = self.direct_pods_max {
            given.set_direct_pods_max(count)?;
        }
        if let Some(listen) = &self.metrics.metrics_listen {
            given.set_metrics_listen(listen)?;
        }
        if let Some(count) = self.metrics.metrics_max_peers {
            given.set_metrics_max_peers(count)?;
        }
        if let Some(level) = &self.log.log_level {
            given.set_log_level(level.clone())?;
        }
        let overlay = &self.overlay;
        for (key, word) in [
            (WordKey::PeerCheck, &overlay.peer_check),
            (WordKey::ReservedBits, &overlay.reserved_bits),
            (WordKey::EcnEncap, &overlay.ecn_encap),
            (WordKey::InnerVlan, &overlay.inner_vlan),
            (WordKey::UdpChecksumRx, &overlay.udp_checksum_rx),
            (WordKey::Superframes, &self.superframes),
            (WordKey::LogFormat, &self.log.log_format),
            (WordKey::Direct, &self.direct),
            (WordKey::PodPrograms, &self.pod_programs),
        ] {
            if let Some(word) = word {
                given.set_word(key, word)?;
            }
        }
        Ok(given)
    }
}

/// Whether a setting was given by its flag, and not by its environment variable. `matches` are those of the subcommand.
pub(super) fn is_flag(matches: &ArgMatches, key: Key) -> bool {
    let id = key.flag().replace('-', "_");
    matches.value_source(&id) == Some(ValueSource::CommandLine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Command;

    #[test]
    fn every_key_of_the_file_has_its_flag_and_variable() {
        let command = SettingFlags::augment_args(Command::new("x"));
        let mut flags: Vec<_> = command
            .get_arguments()
            .map(|arg| {
                let variable = arg.get_env().and_then(|name| name.to_str());
                (arg.get_long().unwrap(), variable.unwrap().to_owned())
            })
            .collect();
        let mut keys: Vec<_> = Key::ALL
            .iter()
            .map(|key| (key.flag(), key.variable()))
            .collect();
        flags.sort();
        keys.sort();
        assert_eq!(flags, keys);
    }

    #[test]
    fn a_flag_is_told_from_what_was_not_given() {
        let command = SettingFlags::augment_args(Command::new("x"));
        let matches = command.get_matches_from(["x", "--peer-check", "off", "--vxlan", "a"]);
        let given: Vec<_> = Key::ALL
            .iter()
            .filter(|key| is_flag(&matches, **key))
            .collect();
        assert_eq!(given, [&Key::Devices, &Key::Word(WordKey::PeerCheck)]);
    }
}
