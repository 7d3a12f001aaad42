//! A fault's code, as people write it and as machines read it.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Fault;

impl Fault {
    /// The one with this code: `VXG-0107`, in any case, also without the letters and leading zeros.
    pub fn from_code(code: &str) -> Option<Self> {
        let code = code.trim().to_ascii_uppercase();
        let digits = code.strip_prefix("VXG").unwrap_or(&code);
        let digits = digits.strip_prefix('-').unwrap_or(digits);
        let number = |digits: &str| {
            digits
                .parse::<u16>()
                .ok()
                .filter(|_| !digits.starts_with('+'))
        };
        let wanted = number(digits)?;
        Self::ALL
            .iter()
            .copied()
            .find(|fault| number(&fault.code()["VXG-".len()..]) == Some(wanted))
    }
}

/// As its code.
impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = Cow::<str>::deserialize(deserializer)?;
        Self::from_code(&code).ok_or_else(|| de::Error::custom(format!("no code: {code}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_ascending_and_well_formed() {
        let codes: Vec<_> = Fault::ALL.iter().map(|fault| fault.code()).collect();
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]), "{codes:?}");
        for code in codes {
            let digits = code.strip_prefix("VXG-").unwrap();
            assert!(digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()));
        }
    }

    #[test]
    fn a_code_is_found_however_it_is_written() {
        for code in ["VXG-0107", "vxg-0107", "0107", "107", " VXG0107 "] {
            assert_eq!(Fault::from_code(code), Some(Fault::QueueBusy), "{code:?}");
        }
        for code in ["", "VXG-", "VXG-0000", "VXG--107", "+107", "queue", "99999"] {
            assert_eq!(Fault::from_code(code), None, "{code:?}");
        }
        for fault in Fault::ALL {
            assert_eq!(Fault::from_code(fault.code()), Some(*fault));
        }
    }
}
