//! The mirror of nexthop objects, as far as FDB entries use them.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::netlink::Nexthop;

/// Nexthop objects by number.
#[derive(Debug, Default)]
pub(super) struct Nexthops(HashMap<u32, Nexthop>);

impl Nexthops {
    /// Applies one message; whether anything changed.
    pub(super) fn apply(&mut self, exists: bool, nexthop: Nexthop) -> bool {
        if exists {
            self.0.insert(nexthop.id, nexthop.clone()).as_ref() != Some(&nexthop)
        } else {
            self.0.remove(&nexthop.id).is_some()
        }
    }

    /// Puts a complete dump in the place of what was known.
    pub(super) fn replace(&mut self, dump: Vec<Nexthop>) {
        self.0 = dump
            .into_iter()
            .map(|nexthop| (nexthop.id, nexthop))
            .collect();
    }

    /// Where it leads. A group leads to the member with the lowest number that has a gateway: the same on every node and
    /// in every run, whatever the order of the group.
    pub(super) fn gateway(&self, id: u32) -> Option<IpAddr> {
        let nexthop = self.0.get(&id)?;
        if nexthop.group.is_empty() {
            return nexthop.gateway;
        }
        let mut members = nexthop.group.clone();
        members.sort_unstable();
        members
            .iter()
            .find_map(|member| self.0.get(member)?.gateway)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nexthop(id: u32, gateway: Option<&str>, group: &[u32]) -> Nexthop {
        Nexthop {
            id,
            gateway: gateway.map(|addr| addr.parse().unwrap()),
            group: group.to_vec(),
            fdb: true,
        }
    }

    #[test]
    fn a_group_leads_to_its_lowest_member_that_has_a_gateway() {
        let mut nexthops = Nexthops::default();
        nexthops.replace(vec![
            nexthop(101, None, &[]),
            nexthop(103, Some("10.9.0.23"), &[]),
            nexthop(102, Some("10.9.0.22"), &[]),
            nexthop(200, None, &[103, 102, 101, 104]),
        ]);
        assert_eq!(nexthops.gateway(200), Some("10.9.0.22".parse().unwrap()));
        assert!(nexthops.apply(false, nexthop(102, None, &[])));
        assert_eq!(nexthops.gateway(200), Some("10.9.0.23".parse().unwrap()));
        assert_eq!(nexthops.gateway(103), Some("10.9.0.23".parse().unwrap()));
        assert_eq!(nexthops.gateway(7), None);
        assert!(
            !nexthops.apply(true, nexthop(103, Some("10.9.0.23"), &[])),
            "the same again is no change"
        );
    }
}
