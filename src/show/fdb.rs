//! `vxgate fdb`: the forwarding database that the workers go by, in the grammar of `bridge fdb`. Text and JSON come from the same
//! value.

use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::control_socket::{SocketError, ask_for};
use super::{Look, SCHEMA};
use crate::gateway::{FdbEntryState, FdbPage, FdbQuery};

/// The answer to `fdb`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fdb {
    /// [`SCHEMA`].
    pub schema: String,
    /// Each entry that the workers or the kernel have; several of one address, one for each of its destinations.
    pub entries: Vec<FdbEntryState>,
}

impl Fdb {
    /// Of these entries.
    pub fn new(entries: Vec<FdbEntryState>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            entries,
        }
    }

    /// All of a daemon's, or those of one VNI; none when there is no such VNI.
    ///
    /// # Errors
    /// When nobody answers, or not what was asked for.
    pub fn ask(socket: &Path, vni: Option<u32>) -> Result<Option<Self>, SocketError> {
        let mut entries = Vec::new();
        let is_known = Self::ask_by_parts(socket, vni, |part| {
            entries.extend(part.entries);
            true
        })?;
        Ok(is_known.then(|| Self::new(entries)))
    }

    /// The same, part by part, as long as whoever takes one wants another; whether there is such a VNI.
    ///
    /// # Errors
    /// As [`Fdb::ask`].
    pub fn ask_by_parts(
        socket: &Path,
        vni: Option<u32>,
        mut take: impl FnMut(Self) -> bool,
    ) -> Result<bool, SocketError> {
        let mut query = FdbQuery { vni, after: None };
        loop {
            let page: FdbPage = ask_for(socket, Look::Fdb(query.clone()))?;
            if !page.known {
                return Ok(false);
            }
            let goes_on = take(Self::new(page.entries));
            query.after = page.next.filter(|_| goes_on);
            if query.after.is_none() {
                return Ok(true);
            }
        }
    }
}

impl fmt::Display for Fdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut entries = self.entries.iter();
        entries.try_for_each(|entry| writeln!(f, "{}", Line(entry)))
    }
}

/// As `bridge fdb` has it; behind a `#` what it has not.
struct Line<'a>(&'a FdbEntryState);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = self.0;
        write!(f, "{} dev {}", entry.mac, entry.device)?;
        if let Some(dst) = entry.dst {
            write!(f, " dst {dst}")?;
        }
        if let Some(port) = entry.port {
            write!(f, " port {port}")?;
        }
        if let Some(vni) = entry.dst_vni {
            write!(f, " vni {vni}")?;
        }
        if let Some(via) = &entry.via {
            write!(f, " via {via}")?;
        }
        if let Some(nexthop) = entry.nexthop {
            write!(f, " nhid {nexthop}")?;
        }
        for word in &entry.words {
            write!(f, " {word}")?;
        }
        match (entry.in_kernel, entry.published) {
            (false, _) => write!(f, "   # the kernel has it no longer"),
            (true, false) => write!(f, "   # the workers do not have it"),
            (true, true) if entry.carried_by == "kernel" => {
                write!(f, "   # its frames are left to the kernel")
            }
            (true, true) => Ok(()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn fdb() -> Fdb {
        let entry = FdbEntryState {
            device: "flannel.1".into(),
            vni: 1,
            mac: "4e:8c:1a:00:11:02".into(),
            dst: Some([10, 0, 0, 11].into()),
            port: None,
            dst_vni: None,
            via: None,
            nexthop: None,
            words: vec!["self".into(), "permanent".into()],
            in_kernel: true,
            published: true,
            carried_by: "vxgate".into(),
        };
        Fdb::new(vec![
            FdbEntryState {
                mac: "00:00:00:00:00:00".into(),
                dst: Some("2001:db8::9".parse().unwrap()),
                port: Some(4790),
                dst_vni: Some(77),
                via: Some("eth1".into()),
                carried_by: "kernel".into(),
                ..entry.clone()
            },
            entry.clone(),
            FdbEntryState {
                mac: "4e:8c:1a:00:11:03".into(),
                dst: None,
                nexthop: Some(102),
                words: vec!["self".into(), "extern_learn".into()],
                ..entry.clone()
            },
            FdbEntryState {
                mac: "4e:8c:1a:00:11:04".into(),
                words: Vec::new(),
                in_kernel: false,
                ..entry.clone()
            },
            FdbEntryState {
                mac: "4e:8c:1a:00:11:05".into(),
                published: false,
                carried_by: "kernel".into(),
                ..entry
            },
        ])
    }

    #[test]
    fn lines_are_those_of_bridge_fdb() {
        insta::assert_snapshot!(fdb());
    }

    #[test]
    fn json_survives_the_round_trip() {
        let json = serde_json::to_value(fdb()).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&json["entries"][0]).unwrap());
        assert_eq!(serde_json::from_value::<Fdb>(json).unwrap(), fdb());
    }
}
