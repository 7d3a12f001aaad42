//! What is logged, and what the lines look like.

use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

use super::ConfigError;
use super::settings::closest;

/// What is logged unless the operator says otherwise: changes of state, and trouble.
pub const LOG_LEVEL_DEFAULT: &str = "info";
/// The words for a level, the quietest first.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// What tells a directive (`vxgate::control=debug`) from a mistyped level, which would be taken for the name of a module.
const DIRECTIVE_MARKS: [&str; 3] = ["=", "::", "["];

/// What the lines of the log look like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
    /// Entries of systemd's journal, with fields.
    Journald,
}

impl LogFormat {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Text, Self::Json, Self::Journald];

    /// The word for it in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Journald => "journald",
        }
    }

    /// What this word stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|format| format.label() == word)
    }
}

/// Judges what is to be logged: a level, or directives by module, with commas between them.
///
/// # Errors
/// What it may be, and what was probably meant.
pub(super) fn judge(level: &str) -> Result<(), String> {
    let is_directive = |part: &str| DIRECTIVE_MARKS.iter().any(|mark| part.contains(mark));
    for part in level.split(',') {
        if !LEVELS.contains(&part) && !is_directive(part) {
            return Err(match closest(part, LEVELS) {
                Some(meant) => format!("{}; did you mean \"{meant}\"?", may_be()),
                None => may_be(),
            });
        }
    }
    EnvFilter::try_new(level)
        .map(drop)
        .map_err(|error| format!("{} ({error})", may_be()))
}

/// What it may be, in words.
pub(super) fn may_be() -> String {
    format!(
        "use {}, or directives by module as in \"info,vxgate::control=debug\"",
        LEVELS.join(", ")
    )
}

/// What it may be, as JSON Schema. Of what stands in a directive it knows less than [`judge`].
pub(super) fn schema() -> Value {
    let part = format!(r"({}|[^,]*(=|::|\[)[^,]*)", LEVELS.join("|"));
    json!({"type": "string", "pattern": format!("^{part}(,{part})*$")})
}

/// Judges what is to be logged from now on, as somebody says at run time.
///
/// # Errors
/// What it may be.
pub fn judge_log_level(level: &str) -> Result<(), ConfigError> {
    judge(level).map_err(|why| ConfigError::LogLevel {
        level: level.to_owned(),
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_told_from_what_is_mistyped() {
        for good in [
            "info",
            "off",
            "info,vxgate::control=debug",
            "vxgate::worker=trace",
            "vxgate::steer",
            "warn,vxgate::gateway=off",
        ] {
            assert_eq!(judge(good), Ok(()), "{good}");
        }
        for (wrong, meant) in [
            ("wran", Some("warn")),
            ("information", Some("info")),
            ("DEBUG", Some("debug")),
            ("info,trce", Some("trace")),
            ("loud", None),
            ("", None),
            ("vxgate::control=loud", None),
        ] {
            let words = judge(wrong).unwrap_err();
            assert!(words.starts_with("use off, error, warn"), "{words}");
            match meant {
                Some(meant) => {
                    let end = format!("did you mean \"{meant}\"?");
                    assert!(words.ends_with(&end), "{wrong}: {words}");
                }
                None => assert!(!words.contains("did you mean"), "{wrong}: {words}"),
            }
        }
    }
}
