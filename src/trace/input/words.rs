//! The words of a description: KEY=VALUE each.

use std::fmt;
use std::str::FromStr;

use crate::config::closest;
use crate::state::parse_mac;
use crate::wire::MacAddr;

/// Every key, and what it stands for.
pub const KEYS: &[(&str, &str)] = &[
    ("src", "inner source address"),
    ("dst", "inner destination address"),
    ("smac", "inner source Ethernet address"),
    ("dmac", "inner destination Ethernet address"),
    ("proto", "tcp, udp, icmp, arp or a number [default: icmp]"),
    ("sport", "inner source port [default: 40000]"),
    ("dport", "inner destination port [default: 80]"),
    ("len", "length of the inner frame, in bytes"),
    ("ttl", "inner TTL or hop limit [default: 64]"),
    ("ecn", "inner ECN: not-ect, ect0, ect1 or ce"),
    ("df", "yes or no: inner DF"),
    ("vlan", "a VLAN tag; one more for each"),
    ("mark", "the mark of the frame, on a device with gbp"),
    ("to", "a VTEP: the destination is a station behind it"),
    ("vni", "VNI"),
    ("flags", "first byte of the VXLAN header [default: 0x08]"),
    ("outer-src", "outer source address"),
    ("outer-dst", "outer destination address"),
    ("outer-smac", "outer source Ethernet address"),
    ("outer-dmac", "outer destination Ethernet address"),
    ("outer-sport", "outer UDP source port [default: 50000]"),
    ("outer-dport", "outer UDP destination port"),
    ("outer-ttl", "outer TTL or hop limit [default: 64]"),
    ("outer-ecn", "outer ECN"),
    ("outer-df", "yes or no: outer DF"),
    (
        "outer-csum",
        "yes or no: an outer UDP checksum [default: only over IPv6]",
    ),
];

/// What was said, by key.
pub(super) struct Words<'a>(pub(super) Vec<(&'a str, &'a str)>);

impl<'a> Words<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        let mut words = Vec::new();
        for word in text.split_whitespace() {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| format!("{word:?} is not KEY=VALUE"))?;
            if !KEYS.iter().any(|(known, _)| *known == key) {
                let known = KEYS.iter().map(|(known, _)| *known);
                return Err(match closest(key, known.clone()) {
                    Some(meant) => format!("{key}: no such key; did you mean {meant}?"),
                    None => {
                        let known: Vec<_> = known.collect();
                        format!("{key}: no such key; there is {}", known.join(", "))
                    }
                });
            }
            if key != "vlan" && words.iter().any(|(said, _)| *said == key) {
                return Err(format!("{key} is there twice"));
            }
            words.push((key, value));
        }
        Ok(Self(words))
    }

    /// No word of these, which a frame of this kind has no place for.
    pub(super) fn refuse(&self, keys: &[&str], why: &str) -> Result<(), String> {
        let mut words = self.0.iter();
        match words.find(|(said, _)| keys.contains(said)) {
            Some((key, _)) => Err(format!("{key}: {why}")),
            None => Ok(()),
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        let mut words = self.0.iter();
        words
            .find(|(said, _)| *said == key)
            .map(|(_, value)| *value)
    }

    pub(super) fn value<T: FromStr>(&self, key: &str) -> Result<Option<T>, String>
    where
        T::Err: fmt::Display,
    {
        let value = self.text(key).map(|text| {
            text.parse()
                .map_err(|error| format!("{key}={text}: {error}"))
        });
        value.transpose()
    }

    /// A number, decimal or hexadecimal.
    pub(super) fn number<T: TryFrom<u64>>(&self, key: &str, default: T) -> Result<T, String> {
        let Some(text) = self.text(key) else {
            return Ok(default);
        };
        let number = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        let number = number.ok().and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| format!("{key}={text} is no number that it could be"))
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool, String> {
        match self.text(key) {
            None => Ok(default),
            Some("yes") => Ok(true),
            Some("no") => Ok(false),
            Some(text) => Err(format!("{key}={text}: yes or no")),
        }
    }

    pub(super) fn mac(&self, key: &str) -> Result<Option<MacAddr>, String> {
        let mac = self.text(key).map(|text| {
            parse_mac(text).ok_or_else(|| format!("{key}={text} is no Ethernet address"))
        });
        mac.transpose()
    }

    pub(super) fn ecn(&self, key: &str) -> Result<u8, String> {
        match self.text(key) {
            None | Some("not-ect") => Ok(0),
            Some("ect1") => Ok(1),
            Some("ect0") => Ok(2),
            Some("ce") => Ok(3),
            Some(text) => Err(format!("{key}={text}: not-ect, ect0, ect1 or ce")),
        }
    }
}
