//! `vxgate drops`: what frames died of, when, what that means and what to do; and whether every frame has its fate. Text and
//! JSON come from the same value.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{Align, Columns, ago};
use super::{LastDropped, SCHEMA, Status};
use crate::fault::paragraph;
use crate::gateway::DropState;
use crate::stats::DropReason;

/// Columns of the screen that words of explanation may fill.
const COLUMNS: usize = 118;
/// Ports of a reason that text names; JSON has all of them.
const PORTS_SHOWN: usize = 3;

/// How far to look back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Since {
    /// To the takeover.
    #[serde(rename = "takeover")]
    Takeover,
    /// A minute.
    #[serde(rename = "1m")]
    Minute,
    /// Ten minutes.
    #[serde(rename = "10m")]
    TenMinutes,
    /// An hour.
    #[serde(rename = "1h")]
    Hour,
}

impl Since {
    fn words(self) -> &'static str {
        match self {
            Self::Takeover => "since the takeover",
            Self::Minute => "in the last minute",
            Self::TenMinutes => "in the last 10 minutes",
            Self::Hour => "in the last hour",
        }
    }

    fn count(self, state: &DropState) -> u64 {
        match self {
            Self::Takeover => state.count,
            Self::Minute => state.last_minute,
            Self::TenMinutes => state.last_10_minutes,
            Self::Hour => state.last_hour,
        }
    }
}

/// The answer to `drops`. Field names are the keys of `vxgate drops --json`: add, never rename.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drops {
    /// [`SCHEMA`].
    pub schema: String,
    /// How far the counts look back.
    pub since: Since,
    /// Every reason, whether it happened or not.
    pub drops: Vec<Dropped>,
    /// What each port's frames came to since the takeover.
    pub balance: Vec<Balance>,
}

/// A reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dropped {
    /// Its name, as in metrics.
    pub reason: String,
    /// The kernel's name for the same fate (`SKB_DROP_REASON_…`), or a dash.
    pub kernel_name: String,
    /// `rx`, `tx` or `both`: which way frames go that can die of it.
    pub direction: String,
    /// How many did.
    pub count: u64,
    /// How many of them at each port.
    pub ports: BTreeMap<String, u64>,
    /// Milliseconds since the last one; none when there was none since the takeover. Looked at once a second.
    pub last_age_ms: Option<u64>,
    /// The latest frame on record that died of it: who sent it to whom; none where none is.
    #[serde(default)]
    pub example: Option<String>,
    /// What happened.
    pub meaning: String,
    /// What to do about it.
    pub action: String,
}

impl Dropped {
    /// The ports where most of them died, and how many ports more there are.
    fn ports_in_words(&self) -> String {
        let mut ports: Vec<_> = self.ports.iter().collect();
        ports.sort_by_key(|(_, count)| Reverse(**count));
        let shown = ports.iter().take(PORTS_SHOWN);
        let mut words: Vec<_> = shown
            .map(|(port, count)| format!("{port} {count}"))
            .collect();
        if let Some(more @ 1..) = ports.len().checked_sub(PORTS_SHOWN) {
            words.push(format!("and {more} more"));
        }
        words.join(", ")
    }
}

/// The balance of a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Balance {
    /// The port.
    pub port: String,
    /// `underlay` or `access`.
    pub role: String,
    /// Frames that arrived.
    pub received: u64,
    /// Those handed on.
    pub forwarded: u64,
    /// Those left to the kernel.
    pub passed: u64,
    /// Those that died.
    pub dropped: u64,
    /// Those that have no fate yet.
    pub in_flight: i64,
    /// Whether that is all of them.
    pub ok: bool,
}

impl Drops {
    /// Of a status, with examples among the last frames that died.
    pub fn of(status: &Status, last: &LastDropped, since: Since) -> Self {
        let seen = &status.observation;
        let dropped = |reason: &DropReason| {
            let all = seen.drops.iter();
            let states: Vec<_> = all.filter(|one| one.reason == reason.label()).collect();
            let mut ports = BTreeMap::new();
            for state in &states {
                let count = since.count(state);
                if count > 0 {
                    *ports.entry(state.port.clone()).or_default() += count;
                }
            }
            Dropped {
                reason: reason.label().to_owned(),
                kernel_name: reason.kernel_name().to_owned(),
                direction: reason.direction().label().to_owned(),
                count: ports.values().sum(),
                ports,
                last_age_ms: states.iter().map(|one| one.last_age_ms).min(),
                example: last.example(reason.label()),
                meaning: reason.help().to_owned(),
                action: reason.action().to_owned(),
            }
        };
        let balance = seen.ports.iter().map(|port| Balance {
            port: port.name.clone(),
            role: port.role.clone(),
            received: port.received,
            forwarded: port.forwarded,
            passed: port.passed.get("total").copied().unwrap_or(0),
            dropped: port.drops.get("total").copied().unwrap_or(0),
            in_flight: port.in_flight,
            ok: port.balance_ok,
        });
        Self {
            schema: SCHEMA.to_owned(),
            since,
            drops: DropReason::ALL.iter().map(dropped).collect(),
            balance: balance.collect(),
        }
    }

    /// Whether every frame has its fate.
    pub fn is_balanced(&self) -> bool {
        self.balance.iter().all(|port| port.ok)
    }
}

impl fmt::Display for Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let happened = || self.drops.iter().filter(|one| one.count > 0);
        if happened().next().is_none() {
            writeln!(f, "no frame was dropped {}", self.since.words())?;
        } else {
            let mut table = Columns::new([
                ("REASON", Align::Left),
                ("KERNEL NAME", Align::Left),
                ("DIR", Align::Left),
                ("COUNT", Align::Right),
                ("LAST", Align::Right),
                ("PORTS", Align::Left),
                ("EXAMPLE", Align::Left),
            ]);
            for one in happened() {
                table.row([
                    one.reason.clone(),
                    one.kernel_name.clone(),
                    one.direction.clone(),
                    one.count.to_string(),
                    ago(one.last_age_ms),
                    one.ports_in_words(),
                    one.example.clone().unwrap_or_else(|| "-".to_owned()),
                ]);
            }
            writeln!(f, "dropped {}:", self.since.words())?;
            write!(f, "{table}")?;
            for one in happened() {
                let words = format!("{}: {} {}", one.reason, one.meaning, one.action);
                f.write_str(&paragraph::filled("  ", &words, COLUMNS))?;
            }
            if happened().any(|one| one.example.is_some()) {
                writeln!(
                    f,
                    "vxgate drops --last [REASON] shows the last of them whole"
                )?;
            }
        }
        writeln!(f, "--")?;
        for port in &self.balance {
            let verdict = if port.ok { "OK" } else { "BROKEN" };
            writeln!(
                f,
                "{}: received {} = forwarded {} + passed {} + dropped {} + in flight {}   balance {verdict}",
                port.port, port.received, port.forwarded, port.passed, port.dropped, port.in_flight
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Observation;
    use crate::show::last_dropped;
    use crate::show::metrics::samples;

    fn last() -> LastDropped {
        let frame = last_dropped::tests::frame;
        LastDropped::new(vec![frame("unknown_peer", "eth1", 1200)])
    }

    fn status() -> Status {
        let mut seen = samples::observation();
        let drop = |port: &str, reason: &str, count, last_age_ms, last_minute| DropState {
            port: port.into(),
            direction: "rx".into(),
            reason: reason.into(),
            count,
            last_age_ms,
            last_minute,
            last_10_minutes: last_minute,
            last_hour: count,
        };
        seen.drops = vec![
            drop("eth1", "unknown_peer", 3, 125_000, 0),
            drop("eth2", "unknown_peer", 4, 4_200, 1),
            drop("flannel.1", "no_tx_target", 2, 130_000, 0),
        ];
        Status::new(seen, 7)
    }

    #[test]
    fn the_text_tells_what_happened_when_where_and_what_to_do() {
        insta::assert_snapshot!(Drops::of(&status(), &last(), Since::Takeover));
    }

    #[test]
    fn of_the_last_minute_only_what_happened_in_it_is_told() {
        insta::assert_snapshot!(Drops::of(&status(), &last(), Since::Minute));
    }

    #[test]
    fn of_many_ports_those_are_named_where_most_died() {
        let mut drops = Drops::of(&status(), &last(), Since::Takeover);
        let unknown = drops
            .drops
            .iter_mut()
            .find(|one| one.reason == "unknown_peer");
        let unknown = unknown.unwrap();
        assert_eq!(unknown.ports_in_words(), "eth2 4, eth1 3");
        let many = (0..9).map(|number| (format!("pod{number}"), 10 + number));
        unknown.ports.extend(many);
        assert_eq!(
            unknown.ports_in_words(),
            "pod8 18, pod7 17, pod6 16, and 8 more"
        );
    }

    #[test]
    fn json_has_every_reason_and_survives_the_round_trip() {
        let drops = Drops::of(&status(), &last(), Since::Hour);
        let json = serde_json::to_value(&drops).unwrap();
        assert_eq!(json["schema"], SCHEMA);
        assert_eq!(json["since"], "1h");
        let reasons = json["drops"].as_array().unwrap();
        assert_eq!(reasons.len(), DropReason::COUNT);
        let unknown = reasons.iter().find(|one| one["reason"] == "unknown_peer");
        insta::assert_snapshot!(serde_json::to_string_pretty(&unknown.unwrap()).unwrap());
        insta::assert_snapshot!(serde_json::to_string_pretty(&json["balance"][0]).unwrap());
        assert_eq!(serde_json::from_value::<Drops>(json).unwrap(), drops);
    }

    #[test]
    fn where_nothing_died_it_is_said_so() {
        let nothing = Status::new(Observation::default(), 1);
        let drops = Drops::of(&nothing, &last(), Since::Takeover);
        assert_eq!(
            drops.to_string(),
            "no frame was dropped since the takeover\n--\n"
        );
        assert!(drops.is_balanced());
    }
}
