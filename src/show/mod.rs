//! Views for people and scrapers, the sockets that hand them out, and what a daemon may be told over one of them.

mod brief;
mod capture;
mod columns;
mod control_socket;
mod drops;
mod fdb;
mod figures;
mod flows;
mod frame_words;
mod http;
mod last_dropped;
mod look;
mod metrics;
mod observed;
mod operation;
mod peers;
mod perf;
mod schema;
mod status;
mod top;
mod unix_socket;
mod workers;

pub use brief::Brief;
pub use capture::{
    BUFFER, CaptureRequest, CaptureStream, CapturedFrame, Counts, Message, SNAPLEN_MAX, Stopper,
    Verdict,
};
pub use control_socket::{
    ControlSocket, PATIENCE, SocketError, answer_to, ask, ask_for, ask_state, ask_within,
    capture_from, order, read_answer,
};
pub use drops::{Balance, Dropped, Drops, Since};
pub use fdb::Fdb;
pub use flows::Flows;
pub use http::{HEAD_LEN_MAX, Head, Method, Refusal, Request};
pub use last_dropped::LastDropped;
pub use look::{Look, Seen};
pub use metrics::{MetricsError, MetricsSocket};
pub use observed::{Inner, Observed, Told, Tunnel, verdict};
pub use operation::{Action, Done, LogLevel, Reloaded, Traffic};
pub use peers::{Peer, Peers};
pub use perf::{
    Measuring, Perf, PerfError, QueuePerf, RingPerf, Scale, StagesPerf, WorkerPerf, WorkersNow,
};
pub use schema::schema_of;
pub use status::{Configuration, Health, Reloads, SCHEMA, Status};
pub use top::{DropRate, Flow, PeerRate, PortRate, Rates, Sort, Style, Top, WorkerRate};
pub use workers::{Worker, Workers};
