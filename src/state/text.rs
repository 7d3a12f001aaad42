//! Values that have words: as the command line, `ip` and `bridge` write them. For `#[serde(with = "…")]`.

use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use crate::table::{
    Destination, Df, EcnEncap, FlowLabel, GroupId, Inherit, InnerVlan, ListId, PeerCheck,
    UdpChecksum, UnresolvedReason, VtepId,
};
use crate::wire::{MacAddr, Vni};

/// A value with a word.
pub trait Word: Sized {
    /// What it is, for whoever wrote another one.
    const WHAT: &'static str;
    /// Its word.
    fn word(&self) -> String;
    /// The value of a word.
    fn of(word: &str) -> Option<Self>;
}

/// An Ethernet address from its text: six pairs of hexadecimal digits with colons between them.
pub fn parse_mac(text: &str) -> Option<MacAddr> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2)?;
        // `from_str_radix` would take a sign.
        let hex = part.bytes().all(|digit| digit.is_ascii_hexdigit());
        *byte = u8::from_str_radix(part, 16).ok().filter(|_| hex)?;
    }
    parts.next().is_none().then_some(MacAddr(bytes))
}

impl Word for MacAddr {
    const WHAT: &'static str = "an Ethernet address (02:00:00:00:00:01)";

    fn word(&self) -> String {
        self.to_string()
    }

    fn of(word: &str) -> Option<Self> {
        parse_mac(word)
    }
}

macro_rules! labelled {
    ($($name:ident $what:literal;)*) => {$(
        impl Word for $name {
            const WHAT: &'static str = $what;

            fn word(&self) -> String {
                self.label().to_owned()
            }

            fn of(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.label() == word)
            }
        }
    )*};
}

labelled! {
    PeerCheck "strict, strict-mac, log or off";
    EcnEncap "kernel, rfc6040 or compat";
    InnerVlan "pass or drop";
    UnresolvedReason "no_route, no_neighbour, link_down, local_address or unsupported";
}

impl Word for Df {
    const WHAT: &'static str = "unset, set or inherit";

    fn word(&self) -> String {
        match self {
            Self::Unset => "unset",
            Self::Set => "set",
            Self::Inherit => "inherit",
        }
        .to_owned()
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Unset, Self::Set, Self::Inherit]
            .into_iter()
            .find(|df| df.word() == word)
    }
}

impl Word for UdpChecksum {
    const WHAT: &'static str = "zero or compute";

    fn word(&self) -> String {
        match self {
            Self::Zero => "zero",
            Self::Compute => "compute",
        }
        .to_owned()
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Zero, Self::Compute]
            .into_iter()
            .find(|one| one.word() == word)
    }
}

impl Word for Destination {
    const WHAT: &'static str = "where an entry leads (vtep N, group N or list N)";

    fn word(&self) -> String {
        match self {
            Self::Vtep(VtepId(number)) => format!("vtep {number}"),
            Self::Group(GroupId(number)) => format!("group {number}"),
            Self::List(ListId(number)) => format!("list {number}"),
        }
    }

    fn of(word: &str) -> Option<Self> {
        let (kind, number) = word.split_once(' ')?;
        let number = number.parse().ok()?;
        match kind {
            "vtep" => Some(Self::Vtep(VtepId(number))),
            "group" => Some(Self::Group(GroupId(number))),
            "list" => Some(Self::List(ListId(number))),
            _ => None,
        }
    }
}

fn refused<E: serde::de::Error>(found: impl fmt::Debug, what: &str) -> E {
    E::custom(format!("{found:?} is not {what}"))
}

/// A [`Word`] as text.
pub mod word {
    use super::{Deserialize, Deserializer, Serializer, Word, refused};

    pub fn serialize<T: Word, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&value.word())
    }

    pub fn deserialize<'de, T: Word, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        let text = String::deserialize(from)?;
        T::of(&text).ok_or_else(|| refused(&text, T::WHAT))
    }
}

/// A [`Word`] as text, or null.
pub mod maybe_word {
    use super::{Deserialize, Deserializer, Serializer, Word, refused};

    pub fn serialize<T: Word, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.serialize_some(&value.word()),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, T: Word, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let value = |text: String| T::of(&text).ok_or_else(|| refused(&text, T::WHAT));
        text.map(value).transpose()
    }
}

/// A VNI as a number.
pub mod vni {
    use super::{Deserialize, Deserializer, Serializer, Vni, refused};

    pub fn serialize<S: Serializer>(vni: &Vni, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(vni.get())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vni, D::Error> {
        let number = u32::deserialize(from)?;
        Vni::new(number).map_err(|_| refused(number, "a VNI (24 bits)"))
    }
}

/// Bits as 16 hexadecimal digits.
pub mod bits {
    use super::{Deserialize, Deserializer, Serializer, refused};

    pub fn serialize<S: Serializer>(bits: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{bits:016x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        let digits = text.len() == 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let bits = u64::from_str_radix(&text, 16).ok().filter(|_| digits);
        bits.ok_or_else(|| refused(&text, "16 hexadecimal digits"))
    }
}

/// A number, or a word in its place.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Either {
    Number(u64),
    Word(String),
}

/// What follows the inner header.
const INHERIT: &str = "inherit";

/// TTL and TOS: a number, or `inherit`.
pub mod inherit {
    use super::{Deserialize, Deserializer, Either, INHERIT, Inherit, Serializer, refused};

    pub fn serialize<S: Serializer>(value: &Inherit, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Inherit::Fixed(value) => to.serialize_u8(*value),
            Inherit::Inner => to.serialize_str(INHERIT),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Inherit, D::Error> {
        const WHAT: &str = "0 to 255, or inherit";
        match Either::deserialize(from)? {
            Either::Number(number) => u8::try_from(number)
                .map(Inherit::Fixed)
                .map_err(|_| refused(number, WHAT)),
            Either::Word(word) if word == INHERIT => Ok(Inherit::Inner),
            Either::Word(word) => Err(refused(word, WHAT)),
        }
    }
}

/// A flow label: a number of 20 bits, `inherit` or `hash`.
pub mod flow_label {
    use super::{Deserialize, Deserializer, Either, FlowLabel, INHERIT, Serializer, refused};

    pub fn serialize<S: Serializer>(value: &FlowLabel, to: S) -> Result<S::Ok, S::Error> {
        match value {
            FlowLabel::Fixed(label) => to.serialize_u32(*label),
            FlowLabel::Inner => to.serialize_str(INHERIT),
            FlowLabel::Hash => to.serialize_str("hash"),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<FlowLabel, D::Error> {
        const WHAT: &str = "a flow label (20 bits), inherit or hash";
        match Either::deserialize(from)? {
            Either::Number(number) if number < 1 << 20 => Ok(FlowLabel::Fixed(number as u32)),
            Either::Number(number) => Err(refused(number, WHAT)),
            Either::Word(word) => match word.as_str() {
                INHERIT => Ok(FlowLabel::Inner),
                "hash" => Ok(FlowLabel::Hash),
                _ => Err(refused(word, WHAT)),
            },
        }
    }
}

/// FDB entries: an object of addresses and where they lead.
pub mod fdb {
    use super::{
        Deserializer, Destination, Entries, MacAddr, SerializeMap as _, Serializer, Word as _,
    };

    pub fn serialize<S: Serializer>(
        entries: &[(MacAddr, Destination)],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(entries.len()))?;
        for (mac, to) in entries {
            map.serialize_entry(&mac.word(), &to.word())?;
        }
        map.end()
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<(MacAddr, Destination)>, D::Error> {
        from.deserialize_map(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(MacAddr, Destination)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of FDB entries")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(Named(mac)) = map.next_key()? {
            let Named(to) = map.next_value()?;
            entries.push((mac, to));
        }
        Ok(entries)
    }
}

/// A value read from its word.
struct Named<T>(T);

impl<'de, T: Word> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Of<T>(std::marker::PhantomData<T>);
        impl<T: Word> Visitor<'_> for Of<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::WHAT)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
                T::of(text).ok_or_else(|| refused(text, T::WHAT))
            }
        }
        from.deserialize_str(Of(std::marker::PhantomData)).map(Self)
    }
}

/// Source ports as `[lowest, highest]`.
pub mod source_ports {
    use super::{Deserialize, Deserializer, Serialize, Serializer};
    use crate::table::SourcePorts;
    use serde::de::Error as _;

    pub fn serialize<S: Serializer>(ports: &SourcePorts, to: S) -> Result<S::Ok, S::Error> {
        [ports.low, ports.high].serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SourcePorts, D::Error> {
        let [low, high] = <[u16; 2]>::deserialize(from)?;
        if low > high {
            return Err(D::Error::custom(format!(
                "[{low}, {high}] is not a range of ports: the lowest comes first"
            )));
        }
        Ok(SourcePorts { low, high })
    }
}

/// A TTL that is never 0.
pub fn ttl_default<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    match u8::deserialize(from)? {
        0 => Err(D::Error::custom("a default TTL of 0 cannot be")),
        ttl => Ok(ttl),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_six_pairs_of_digits_and_nothing_else() {
        assert_eq!(
            parse_mac("02:0a:FF:00:00:01"),
            Some(MacAddr([2, 10, 255, 0, 0, 1]))
        );
        for text in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "2:0:0:0:0:1",
            "02-00-00-00-00-01",
            "+2:00:00:00:00:01",
            "02:00:00:00:00:0g",
        ] {
            assert_eq!(parse_mac(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_word_comes_back() {
        fn back<T: Word + Copy + PartialEq + std::fmt::Debug>(values: &[T]) {
            for value in values {
                assert_eq!(T::of(&value.word()), Some(*value));
            }
            assert_eq!(T::of("nonsense"), None);
        }
        back(PeerCheck::ALL);
        back(EcnEncap::ALL);
        back(InnerVlan::ALL);
        back(UnresolvedReason::ALL);
        back(&[Df::Unset, Df::Set, Df::Inherit]);
        back(&[UdpChecksum::Zero, UdpChecksum::Compute]);
        back(&[
            Destination::Vtep(VtepId(7)),
            Destination::Group(GroupId(0)),
            Destination::List(ListId(u32::MAX)),
        ]);
        assert_eq!(Destination::of("vtep -1"), None);
    }
}
