//! What may change that the kernel decides by, and what was heard of it.

/// What may change that frames' fates depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Rules or sets of nftables, or of `iptables-nft`.
    Filters,
    /// A link, or a bridge's port.
    Link,
    /// An address of this node.
    Address,
    /// Where a neighbour is.
    Neighbour,
    /// Behind which port a station is.
    Fdb,
    /// A route.
    Route,
    /// A rule that chooses a routing table.
    Rule,
    /// A nexthop object.
    Nexthop,
    /// A queueing discipline or classifier.
    TrafficControl,
    /// Forwarding and the like (`net.ipv4.conf`, `net.ipv6.conf`).
    Netconf,
    /// An IPsec policy.
    Policy,
    /// What devices can do for XDP.
    XdpFeatures,
    /// Whatever could not be told for lack of room.
    Overrun,
    /// An announcement of a kind that is not known here.
    Unknown,
    /// What vxgate itself goes by: another snapshot.
    Snapshot,
    /// Something forbids the direct path, or TCP, that did not before.
    Forbidden,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Filters,
        Self::Link,
        Self::Address,
        Self::Neighbour,
        Self::Fdb,
        Self::Route,
        Self::Rule,
        Self::Nexthop,
        Self::TrafficControl,
        Self::Netconf,
        Self::Policy,
        Self::XdpFeatures,
        Self::Overrun,
        Self::Unknown,
        Self::Snapshot,
        Self::Forbidden,
    ];

    /// Its name, the value of the metric label `what`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Filters => "filters",
            Self::Link => "link",
            Self::Address => "address",
            Self::Neighbour => "neighbour",
            Self::Fdb => "fdb",
            Self::Route => "route",
            Self::Rule => "rule",
            Self::Nexthop => "nexthop",
            Self::TrafficControl => "traffic_control",
            Self::Netconf => "netconf",
            Self::Policy => "policy",
            Self::XdpFeatures => "xdp_features",
            Self::Overrun => "overrun",
            Self::Unknown => "unknown",
            Self::Snapshot => "snapshot",
            Self::Forbidden => "forbidden",
        }
    }
}

/// What was heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// Something changed that frames' fates depend on: what, first of all.
    pub changed: Option<Change>,
    /// Links came, went, moved to another bridge, got another queueing discipline, or can do other things for programs.
    pub links: bool,
    /// There was more than is taken at a time.
    pub more_waits: bool,
}

impl Heard {
    pub(super) fn note(&mut self, change: Change) {
        self.changed.get_or_insert(change);
    }

    pub(super) fn note_links(&mut self, change: Change) {
        self.note(change);
        self.links = true;
    }
}
