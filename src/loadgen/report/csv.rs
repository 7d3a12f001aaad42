//! A measurement as comma-separated values (RFC 4180): a header line, then a line a trial.
//!
//! The columns are frozen: their order and names never change, and new ones come at the end, so that files of many runs can
//! be put together and a spreadsheet goes on working. A value that there is not (a rate without limit, the latency of
//! nothing) is an empty field.

use super::{Device, Report, TrialReport};
use crate::loadgen::csv::{line, optional};

/// The names of the columns, in their order.
pub const COLUMNS: [&str; 34] = [
    "measurement",
    "date",
    "tx",
    "tx_netns",
    "tx_driver",
    "rx",
    "rx_netns",
    "rx_driver",
    "engine",
    "sink_mode",
    "kernel",
    "trial",
    "asked_fps",
    "duration_s",
    "sent_fps",
    "received_fps",
    "received_bps",
    "loss_ratio",
    "sent",
    "received",
    "lost",
    "duplicated",
    "reordered",
    "corrupted",
    "misdelivered",
    "late",
    "foreign",
    "p50_ns",
    "p90_ns",
    "p99_ns",
    "p999_ns",
    "max_ns",
    "cpu_ns_per_frame",
    "load_milli",
];

impl Report {
    /// Header and rows, each ended by a line feed.
    pub fn csv(&self) -> String {
        let mut text = line(&COLUMNS.map(str::to_owned));
        let what = self.csv_run();
        for (number, trial) in (1..).zip(&self.trials) {
            let mut fields = what.clone();
            fields.extend(trial_fields(number, trial));
            fields.push(self.host.load_milli.to_string());
            text.push_str(&line(&fields));
        }
        text
    }

    /// What all trials have in common.
    fn csv_run(&self) -> Vec<String> {
        let devices = self.devices.as_ref();
        let mut fields = vec![
            self.measurement.clone(),
            self.date.clone().unwrap_or_default(),
        ];
        fields.extend(device(devices.map(|devices| &devices.tx)));
        fields.extend(device(devices.map(|devices| &devices.rx)));
        fields.push(self.engine.clone());
        fields.push(self.sink_mode.clone());
        fields.push(self.host.kernel.clone());
        fields
    }
}

fn device(device: Option<&Device>) -> [String; 3] {
    let Some(device) = device else {
        return Default::default();
    };
    [
        device.name.clone(),
        device.netns.clone().unwrap_or_default(),
        device.driver.clone().unwrap_or_default(),
    ]
}

fn trial_fields(number: usize, trial: &TrialReport) -> [String; 22] {
    let total = &trial.books.total;
    let latency = trial.latency.as_ref();
    [
        number.to_string(),
        optional(trial.asked_fps),
        trial.duration_s.to_string(),
        trial.sent_fps.to_string(),
        trial.received_fps.to_string(),
        trial.received_bps.to_string(),
        trial.loss_ratio.to_string(),
        total.sent.to_string(),
        total.received.to_string(),
        total.lost.to_string(),
        total.duplicated.to_string(),
        total.reordered.to_string(),
        total.corrupted.to_string(),
        total.misdelivered.to_string(),
        trial.late.to_string(),
        trial.foreign.to_string(),
        optional(latency.map(|latency| latency.p50_ns)),
        optional(latency.map(|latency| latency.p90_ns)),
        optional(latency.map(|latency| latency.p99_ns)),
        optional(latency.map(|latency| latency.p999_ns)),
        optional(latency.map(|latency| latency.max_ns)),
        optional(trial.cpu_ns_per_frame),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;
    use crate::loadgen::csv::tests::fields;

    #[test]
    fn the_columns_are_frozen() {
        assert_eq!(
            line(&COLUMNS.map(str::to_owned)),
            "measurement,date,tx,tx_netns,tx_driver,rx,rx_netns,rx_driver,engine,sink_mode,kernel,trial,asked_fps,duration_s,\
             sent_fps,received_fps,received_bps,loss_ratio,sent,received,lost,duplicated,reordered,corrupted,misdelivered,late,\
             foreign,p50_ns,p90_ns,p99_ns,p999_ns,max_ns,cpu_ns_per_frame,load_milli\n"
        );
    }

    #[test]
    fn a_row_a_trial_with_every_column() {
        let text = report().csv();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        let column = |row: usize, name: &str| {
            let at = COLUMNS.iter().position(|column| *column == name).unwrap();
            fields(lines[row])[at].clone()
        };
        assert!(lines.iter().all(|line| fields(line).len() == COLUMNS.len()));
        for (name, value) in [
            ("measurement", "rate"),
            ("tx", "near0"),
            ("tx_netns", ""),
            ("rx_driver", "veth"),
            ("trial", "1"),
            ("asked_fps", "100000"),
            ("lost", "1000"),
            ("duplicated", "5"),
            ("max_ns", "1234500"),
            ("cpu_ns_per_frame", "10000"),
        ] {
            let value_found = column(1, name);
            assert!(value_found.starts_with(value), "{name}: {value_found}");
        }
        assert_eq!(column(2, "asked_fps"), "", "as fast as it goes");
        assert_eq!(column(2, "trial"), "2");
    }

    #[test]
    fn a_device_of_any_name_stays_in_its_column() {
        let mut report = report();
        report.devices.as_mut().unwrap().tx.name = "e,\"0".to_owned();
        assert_eq!(fields(report.csv().lines().nth(1).unwrap())[2], "e,\"0");
    }
}
