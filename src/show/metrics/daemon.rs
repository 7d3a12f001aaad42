//! Metrics of the daemon itself: which it is, how it does, and whether it carries what it should.

use super::exposition::{Exposition, Total, alone, flag};
use super::health;
use crate::gateway::Observation;
use crate::show::{Health, Reloads, Status};

/// Writes all families.
pub(super) fn write(page: &mut Exposition<'_>, status: &Status) {
    let seen = &status.observation;
    let version = vec![("version", status.version.clone())];
    page.gauge(
        "vxgate_build_info",
        "Which vxgate this is; always 1.",
        [(version, 1.0)],
    );
    page.gauge(
        "vxgate_up",
        "Whether every worker stores heartbeats (0 or 1), as /healthz says.",
        [alone(flag(health::unhealthy(seen).is_empty()))],
    );
    page.gauge(
        "vxgate_ready",
        "Whether it is healthy and has forwarded both ways since the takeover (0 or 1), as /readyz says.",
        [alone(flag(health::unready(seen).is_empty()))],
    );
    page.gauge(
        "vxgate_degraded",
        "Whether vxgate status says DEGRADED (0 or 1).",
        [alone(flag(status.state == Health::Degraded))],
    );
    page.gauge(
        "vxgate_warnings",
        "Warnings of vxgate status.",
        [alone(seen.warnings.len() as f64)],
    );
    page.gauge(
        "vxgate_uptime_seconds",
        "Time since the daemon started.",
        [alone(status.uptime_s as f64)],
    );
    page.counter(
        "vxgate_takeovers_total",
        "Takeovers since the daemon started; counters of ports, workers and the mirror begin anew with each.",
        [(vec![], Total::Count(seen.takeovers))],
    );
    reloads(page, &status.reloads);
    captures(page, seen);
    carriers(page, seen);
}

fn reloads(page: &mut Exposition<'_>, reloads: &Reloads) {
    page.counter(
        "vxgate_config_reloads_total",
        "Times that the configuration file was read again; a failure leaves the settings as they were.",
        [
            ("success", reloads.succeeded),
            ("failure", reloads.failed),
        ]
        .map(|(result, count)| (vec![("result", result.to_owned())], Total::Count(count))),
    );
    let last_success_us = reloads.last_success_us.into_iter();
    page.gauge(
        "vxgate_config_last_reload_success_timestamp_seconds",
        "When the settings in force were read: at the start, or by the last reload that succeeded.",
        last_success_us.map(|us| alone(us as f64 / 1e6)),
    );
}

fn captures(page: &mut Exposition<'_>, seen: &Observation) {
    page.gauge(
        "vxgate_captures",
        "Captures that run now (vxgate capture, vxgate observe).",
        [alone(seen.captures.len() as f64)],
    );
    page.counter(
        "vxgate_capture_lost_total",
        "Frames that captures have lost because they were not read in time; the frames themselves went on.",
        [(vec![], Total::Count(seen.capture_lost))],
    );
}

/// Whether it is the kernel that carries frames, and of which devices.
fn carriers(page: &mut Exposition<'_>, seen: &Observation) {
    let stale = seen.workers.iter().any(|worker| !worker.alive);
    page.gauge(
        "vxgate_kernel_fallback_active",
        "Whether frames that vxgate should carry take the kernel's path (0 or 1), by cause.",
        [
            ("drained", seen.drained),
            ("no_takeover", seen.workers.is_empty()),
            ("worker_stale", stale),
        ]
        .map(|(cause, active)| (vec![("cause", cause.to_owned())], flag(active))),
    );
    let taken = seen.devices.iter().filter(|device| device.taken_over);
    let taken = taken.count();
    page.gauge(
        "vxgate_devices",
        "Vxlan devices, by who carries their frames.",
        [
            ("taken_over", taken),
            ("left_to_kernel", seen.devices.len() - taken),
        ]
        .map(|(state, count)| (vec![("state", state.to_owned())], count as f64)),
    );
}
