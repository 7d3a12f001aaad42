//! The identification of outer IPv4 headers.

/// The identification of outer IPv4 headers: a number that runs on, whatever the destination, so that a router which
/// fragments an outer packet with DF clear cannot make two packets' fragments look like one's (RFC 6864 §4.3).
#[derive(Debug, Clone)]
pub struct IpIds(u16);

impl IpIds {
    /// Starts at `first`: workers that send from one address start far from each other.
    pub const fn new(first: u16) -> Self {
        Self(first)
    }

    /// The next number.
    #[inline]
    pub fn next_id(&mut self) -> u16 {
        self.0 = self.0.wrapping_add(1);
        self.0
    }

    /// Passes over numbers that whoever cuts a superframe gives to its segments but the first.
    #[inline]
    pub fn skip(&mut self, n: usize) {
        self.0 = self.0.wrapping_add(n as u16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p02_identifications_run_on_and_wrap() {
        let mut ids = IpIds::new(0xfffe);
        assert_eq!(
            [ids.next_id(), ids.next_id(), ids.next_id()],
            [0xffff, 0, 1]
        );
    }
}
