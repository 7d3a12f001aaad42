//! The two devices of a measurement: what a number means depends on their driver.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The devices of both ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    /// Sends.
    pub tx: Device,
    /// Receives.
    pub rx: Device,
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// The network namespace that it was named in; none: that of the program.
    pub netns: Option<String>,
    /// Its driver, such as `veth` or `mlx5_core`; none when the kernel does not tell.
    pub driver: Option<String>,
    /// The largest payload of its frames, in bytes.
    pub mtu: u32,
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  from      {}", self.tx)?;
        writeln!(f, "  to        {}", self.rx)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let driver = self.driver.as_deref().unwrap_or("unknown driver");
        write!(f, "{} ({driver}, MTU {})", self.name, self.mtu)?;
        match &self.netns {
            Some(netns) => write!(f, " in {netns}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_says_where_it_is() {
        let tx = Device {
            name: "eth1".to_owned(),
            netns: None,
            driver: None,
            mtu: 9000,
        };
        let rx = Device {
            netns: Some("far".to_owned()),
            driver: Some("veth".to_owned()),
            ..tx.clone()
        };
        assert_eq!(
            Devices { tx, rx }.to_string(),
            "  from      eth1 (unknown driver, MTU 9000)\n  to        eth1 (veth, MTU 9000) in far\n"
        );
    }
}
