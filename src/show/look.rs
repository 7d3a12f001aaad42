//! What may be looked at over the control socket, and what is seen.

use serde::{Deserialize, Serialize};

use super::{LastDropped, Status, WorkersNow};
use crate::gateway::{FdbPage, FdbQuery};
use crate::state::State;

/// What may be looked at. Nothing is changed by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Look {
    /// At the last frames that died.
    DroppedFrames,
    /// At a part of the forwarding database.
    Fdb(FdbQuery),
    /// At what the gateway goes by: its table, and what steering is told.
    State,
    /// At all that is counted.
    Status,
    /// At what the workers have done so far, and how full their rings were lately.
    Workers {
        /// In so many milliseconds before now.
        last_ms: u64,
    },
}

/// What is seen.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Seen {
    /// Of [`Look::DroppedFrames`].
    DroppedFrames(LastDropped),
    /// Of [`Look::Fdb`].
    Fdb(FdbPage),
    /// Of [`Look::State`].
    State(Box<State>),
    /// Of [`Look::Status`].
    Status(Box<Status>),
    /// Of [`Look::Workers`].
    Workers(WorkersNow),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::FdbPlace;
    use serde_json::json;

    #[test]
    fn requests_are_written_like_this() {
        let written = |look| serde_json::to_value(look).unwrap();
        assert_eq!(written(Look::DroppedFrames), json!("dropped-frames"));
        assert_eq!(written(Look::State), json!("state"));
        assert_eq!(written(Look::Status), json!("status"));
        let place = FdbPlace { ifindex: 4, mac: 7 };
        let query = FdbQuery {
            vni: Some(1),
            after: Some(place),
        };
        assert_eq!(
            written(Look::Fdb(query)),
            json!({"fdb": {"vni": 1, "after": {"ifindex": 4, "mac": 7}}})
        );
        assert_eq!(
            written(Look::Workers { last_ms: 7 }),
            json!({"workers": {"last_ms": 7}})
        );
    }
}
