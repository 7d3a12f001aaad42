//! Filters in the words of tcpdump, compiled and run by libpcap.

use pcap::{BpfProgram, Capture, Linktype};

use crate::fault::{Explained, Fault};

/// A filter of Ethernet frames.
pub(super) struct Filter(BpfProgram);

/// libpcap could not compile it.
#[derive(Debug, thiserror::Error)]
#[error("'{filter}' is no filter: {why}")]
pub(super) struct FilterError {
    filter: String,
    why: String,
}

impl Explained for FilterError {
    fn fault(&self) -> Fault {
        Fault::FilterInvalid
    }
}

impl Filter {
    /// Compiles one.
    ///
    /// # Errors
    /// What libpcap says.
    pub(super) fn new(filter: &str) -> Result<Self, FilterError> {
        let failed = |error: pcap::Error| FilterError {
            filter: filter.to_owned(),
            why: match error {
                pcap::Error::PcapError(words) => words,
                other => other.to_string(),
            },
        };
        let ethernet = Capture::dead(Linktype::ETHERNET).map_err(failed)?;
        ethernet.compile(filter, true).map(Self).map_err(failed)
    }

    /// Whether a frame passes.
    pub(super) fn passes(&self, frame: &[u8]) -> bool {
        self.0.filter(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_tcpdumps_and_what_is_none_is_said_in_libpcaps_words() {
        let mut arp = vec![0xff; 12];
        arp.extend([8, 6]);
        arp.resize(60, 0);
        assert!(Filter::new("arp").unwrap().passes(&arp));
        assert!(Filter::new("").unwrap().passes(&arp));
        assert!(
            !Filter::new("ip host 10.0.0.1 or vlan")
                .unwrap()
                .passes(&arp)
        );
        assert!(
            Filter::new("ether broadcast and less 100")
                .unwrap()
                .passes(&arp)
        );
        for wrong in ["udp prot 8472", "host", "10.0.0.1.2.3"] {
            let error = Filter::new(wrong).err().unwrap().to_string();
            assert!(
                error.starts_with(&format!("'{wrong}' is no filter: ")),
                "{error}"
            );
            assert!(error.len() > wrong.len() + 25, "{error}");
        }
    }
}
