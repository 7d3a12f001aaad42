//! The lines that a comparison is made of: JSON, one object a line, schema `vxgate-bench/1`.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::loadgen::report::SCHEMA;

/// A data path that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Contender {
    /// Nothing between generator and sink: the control, which tells what the generator itself can.
    None,
    /// Programs that redirect and do nothing else: the least that a data path on these devices does.
    Bare,
    /// The kernel's vxlan.
    Kernel,
    /// Open vSwitch.
    Ovs,
    /// vxgate.
    Vxgate,
}

impl Contender {
    /// Its name, as the lines have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bare => "bare",
            Self::Kernel => "kernel",
            Self::Ovs => "ovs",
            Self::Vxgate => "vxgate",
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Which of two values is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Rates.
    Higher,
    /// Latencies and costs.
    Lower,
}

impl Better {
    /// Its name, as the lines have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
        }
    }
}

impl fmt::Display for Better {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is better", self.name())
    }
}

/// One contender, measured once.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Measure {
    /// Who was measured.
    pub device: Contender,
    /// What was measured, such as `decap/64/ndr`.
    pub row: String,
    /// In which round: in each, all contenders are measured one after the other.
    pub round: u32,
    /// The result; none when there is none, and then the note says why.
    pub value: Option<f64>,
    /// What it counts, such as `frames/s`.
    pub unit: String,
    /// Whether much of it is good.
    pub better: Better,
    /// What measures it again.
    pub command: String,
    /// What else is to be known of it.
    #[serde(default)]
    pub note: Option<String>,
}

/// A fact of the set-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// What.
    pub key: String,
    /// Text, a number, or anything else.
    pub value: Value,
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// A result.
    Measure(Measure),
    /// A fact.
    Setting(Setting),
}

/// A line that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// No JSON, or a key is missing or of another type.
    #[error("{0}")]
    Unreadable(String),
    /// Written by something else, or by another version.
    #[error("schema {0}: this version reads {SCHEMA} only")]
    Schema(String),
    /// Neither a measure nor a setting.
    #[error("kind {0}: lines are of kind \"measure\" or \"setting\"")]
    Kind(String),
    /// No value, and no reason.
    #[error("the value is null, and no note says why")]
    Silent,
}

impl Line {
    /// Reads a line.
    ///
    /// # Errors
    /// [`LineError`].
    pub fn parse(text: &str) -> Result<Self, LineError> {
        // Of a line of its own the line is not 1.
        let unreadable = |error: serde_json::Error| {
            LineError::Unreadable(error.to_string().replace(" at line 1 column ", ", column "))
        };
        let value: Value = serde_json::from_str(text).map_err(unreadable)?;
        let said = |key: &str| value.get(key).map_or("none".to_owned(), Value::to_string);
        if value.get("schema").and_then(Value::as_str) != Some(SCHEMA) {
            return Err(LineError::Schema(said("schema")));
        }
        match value.get("kind").and_then(Value::as_str) {
            Some("measure") => {
                let measure = Measure::deserialize(&value).map_err(unreadable)?;
                match (measure.value, &measure.note) {
                    (None, None) => Err(LineError::Silent),
                    _ => Ok(Self::Measure(measure)),
                }
            }
            Some("setting") => Ok(Self::Setting(
                Setting::deserialize(&value).map_err(unreadable)?,
            )),
            _ => Err(LineError::Kind(said("kind"))),
        }
    }
}

impl Setting {
    /// The value for people: text without quotes.
    pub fn text(&self) -> String {
        match &self.value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEASURE: &str = r#"{"schema":"vxgate-bench/1","kind":"measure","device":"kernel","row":"decap/64/ndr","round":1,
        "value":123456.0,"unit":"frames/s","better":"higher","command":"scripts/bench.sh --only decap/64 --device kernel"}"#;

    #[test]
    fn both_kinds_are_read_and_keys_of_later_versions_do_not_matter() {
        let Line::Measure(measure) =
            Line::parse(&MEASURE.replace("\"round\"", "\"later\":[],\"round\"")).unwrap()
        else {
            panic!("a measure")
        };
        assert_eq!(
            (measure.device, measure.round, measure.value, measure.better),
            (Contender::Kernel, 1, Some(123_456.0), Better::Higher)
        );
        let setting = r#"{"schema":"vxgate-bench/1","kind":"setting","key":"cores","value":2}"#;
        let Line::Setting(setting) = Line::parse(setting).unwrap() else {
            panic!("a setting")
        };
        assert_eq!((&*setting.key, &*setting.text()), ("cores", "2"));
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        for (from, to, words) in [
            ("bench/1", "bench/2", "schema \"vxgate-bench/2\""),
            ("\"schema\"", "\"scheme\"", "schema none"),
            ("measure", "mean", "kind \"mean\""),
            ("\"kernel\"", "\"dpdk\"", "dpdk"),
            ("\"round\":1,", "", "round"),
            ("\"higher\"", "\"bigger\"", "bigger"),
            ("123456.0", "null", "no note"),
            ("}", "", "EOF"),
        ] {
            let error = Line::parse(&MEASURE.replacen(from, to, 1)).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        let noted = MEASURE.replace("123456.0", "null,\"note\":\"no such device\"");
        assert!(Line::parse(&noted).is_ok());
    }
}
