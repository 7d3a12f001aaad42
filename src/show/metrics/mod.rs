//! Metrics and health for machines: three pages over HTTP, from the same look that `vxgate status` shows.
//!
//! | page       | answer                                                                                    |
//! |------------|-------------------------------------------------------------------------------------------|
//! | `/metrics` | Prometheus' text format: [`families`] has the names                                       |
//! | `/healthz` | 200 as long as every worker stores heartbeats, else 503 and which does not ([`health`])   |
//! | `/readyz`  | 200 once it is known to forward, else 503 and what is missing                             |
//!
//! A look takes locks of the control side and asks the kernel for counters; no worker takes part. So that a storm of
//! questions costs no more than a few looks, what was seen is good for [`FRESH`].

mod daemon;
mod direct;
mod effort;
mod exposition;
mod families;
mod health;
mod knowledge;
mod peers;
mod ports;
mod queues;
mod socket;
mod traffic;
mod workers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::Status;
use super::http::Response;
use crate::gateway::Observation;
use exposition::{Exposition, Marks};

pub use socket::{MetricsError, MetricsSocket};

/// How old an answer may be.
const FRESH: Duration = Duration::from_millis(100);
/// The format of `/metrics`.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The pages of a daemon.
struct Pages<L> {
    /// Looks at the gateway.
    look: L,
    /// How many VTEPs have metrics of their own; may change at any time.
    peers_max: Arc<AtomicU32>,
    marks: Marks,
    seen: Option<Seen>,
}

/// What was seen.
struct Seen {
    at: Instant,
    time: SystemTime,
    status: Status,
    /// Written when it is first asked for.
    metrics: Option<Arc<str>>,
}

impl<L: FnMut() -> Status> Pages<L> {
    fn new(look: L, peers_max: Arc<AtomicU32>) -> Self {
        Self {
            look,
            peers_max,
            marks: Marks::default(),
            seen: None,
        }
    }

    /// The page of this path.
    fn answer(&mut self, path: &str, now: Instant) -> Response {
        match path {
            "/metrics" => Response::page(TEXT_FORMAT, self.metrics(now)),
            "/healthz" => verdict("healthy", &health::unhealthy(self.observation(now))),
            "/readyz" => verdict("ready", &health::unready(self.observation(now))),
            _ => Response::text("404 Not Found", "there is /metrics, /healthz and /readyz\n"),
        }
    }

    fn observation(&mut self, now: Instant) -> &Observation {
        let (seen, _) = self.seen(now);
        &seen.status.observation
    }

    fn metrics(&mut self, now: Instant) -> Arc<str> {
        let peers_max = self.peers_max.load(Ordering::Relaxed);
        let peers_max = usize::try_from(peers_max).unwrap_or(usize::MAX);
        let (seen, marks) = self.seen(now);
        let (status, time) = (&seen.status, seen.time);
        let page = seen.metrics.get_or_insert_with(|| {
            marks.begin(status.observation.takeovers);
            let mut page = Exposition::new(marks);
            families::write(&mut page, status, time, peers_max);
            page.finish().into()
        });
        Arc::clone(page)
    }

    /// What was seen lately, or is now.
    fn seen(&mut self, now: Instant) -> (&mut Seen, &mut Marks) {
        let fresh = |seen: &Seen| now.saturating_duration_since(seen.at) < FRESH;
        let kept = self.seen.take().filter(fresh);
        let look = &mut self.look;
        let seen = kept.unwrap_or_else(|| Seen {
            at: now,
            time: SystemTime::now(),
            status: look(),
            metrics: None,
        });
        (self.seen.insert(seen), &mut self.marks)
    }
}

/// 200 with a word, or 503 with what is wrong, a line each.
fn verdict(good: &str, wrong: &[String]) -> Response {
    if wrong.is_empty() {
        Response::text("200 OK", format!("{good}\n"))
    } else {
        Response::text("503 Service Unavailable", wrong.join("\n") + "\n")
    }
}

#[cfg(test)]
pub(super) mod samples;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashSet;

    use super::*;
    use crate::show::Reloads;

    fn page(observation: Observation, peers_max: usize) -> String {
        let status = Status::new(observation, 7).with_reloads(Reloads {
            succeeded: 3,
            failed: 1,
            last_success_us: Some(1_000_000_250_000),
        });
        let mut marks = Marks::default();
        let mut page = Exposition::new(&mut marks);
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_500);
        families::write(&mut page, &status, time, peers_max);
        page.finish()
    }

    #[test]
    fn the_page_is_this_text() {
        let text = page(samples::observation(), 512);
        let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
        let text = text.replace(&version, "version=\"VERSION\"");
        assert!(text == include_str!("sample.txt"), "\n{text}");
    }

    #[test]
    fn no_series_is_there_twice_and_their_number_is_bounded() {
        let text = page(samples::crowd(), 100);
        let mut seen = HashSet::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(seen.insert(series), "{series}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
        let of = |family: &str| {
            seen.iter()
                .filter(|series| series.starts_with(family))
                .count()
        };
        assert_eq!(of("vxgate_packets_total{"), ports::PORTS_MAX + 1);
        assert_eq!(of("vxgate_peer_path_mtu_bytes{"), 100);
        assert_eq!(of("vxgate_peer_packets_total{"), 2 * 100);
        assert_eq!(of("vxgate_vni_bytes_total{"), 2 * (traffic::VNIS_MAX + 1));
        assert_eq!(of("vxgate_peers{"), traffic::VNIS_MAX + 1);
        assert!(seen.len() < 10_000, "{}", seen.len());
        for (series, value) in [
            // Of 500 ports, the last 372; each has received 10 frames and dropped one.
            (
                "vxgate_packets_total{port=\"other access\",direction=\"rx\"}",
                3720,
            ),
            (
                "vxgate_drops_total{port=\"other access\",reason=\"oversize\",direction=\"tx\"}",
                372,
            ),
            ("vxgate_peers{vni=\"other\",state=\"resolved\"}", 372),
            ("vxgate_peers_hidden", 400),
        ] {
            assert!(
                text.contains(&format!("{series} {value}\n")),
                "{series}:\n{text}"
            );
        }
        // The narrowest path is shown, the widest is not.
        assert!(
            text.contains(",peer=\"10.0.0.0\",udp_port=\"8472\"} 1000\n"),
            "{text}"
        );
        assert!(!text.contains(",peer=\"10.0.1.243\",udp_port="), "{text}");
        // The peer with the most frames is shown, the one with none is not.
        let packets =
            |last| format!("vxgate_peer_packets_total{{device=\"flannel.1\",vni=\"{last}\"");
        assert!(text.contains(&packets(499)) && !text.contains(&packets(0)));
    }

    #[test]
    fn nothing_taken_over_has_a_page_too() {
        let text = page(Observation::default(), 512);
        for line in [
            "vxgate_up 1\n",
            "vxgate_ready 0\n",
            "vxgate_kernel_fallback_active{cause=\"no_takeover\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert!(!text.contains("vxgate_packets_total"), "{text}");
    }

    #[test]
    fn the_direct_path_has_series_of_its_own_where_it_was_asked_for() {
        let text = page(samples::observation(), 512);
        assert!(!text.contains("vxgate_direct"), "{text}");
        let text = page(samples::with_direct(), 512);
        for line in [
            "vxgate_direct_allowed{protocol=\"tcp\"} 0\n",
            "vxgate_direct_allowed{protocol=\"udp\"} 1\n",
            "vxgate_direct_flows{gear=\"express\"} 3\n",
            "vxgate_direct_flows{gear=\"ring\"} 1\n",
            "vxgate_direct_forwarded_packets_total{gear=\"ring\",direction=\"encap\"} 10\n",
            "vxgate_direct_pods{state=\"attended\"} 2\n",
            "vxgate_direct_promotions_total 9\n",
            "vxgate_direct_sightings_lost_total{reason=\"no_place\"} 5\n",
            "vxgate_direct_changes_total{what=\"filters\"} 1\n",
            "vxgate_direct_changes_total{what=\"fdb\"} 0\n",
            "vxgate_direct_received_packets_total{gear=\"express\",direction=\"encap\"} 100\n",
            "vxgate_direct_forwarded_packets_total{gear=\"express\",direction=\"decap\"} 45\n",
            "vxgate_direct_handed_up_packets_total{gear=\"express\",direction=\"encap\",reason=\"ttl\"} 9\n",
            "vxgate_direct_balance_ok{gear=\"express\",direction=\"decap\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }

    #[test]
    fn a_storm_of_questions_looks_a_few_times() {
        let looks = Cell::new(0);
        let look = || {
            looks.set(looks.get() + 1);
            Status::new(samples::observation(), looks.get())
        };
        let mut pages = Pages::new(look, Arc::new(512.into()));
        let start = Instant::now();
        let mut ask = |path: &str, later: Duration| {
            let response = pages.answer(path, start + later);
            (
                response.head().lines().next().unwrap().to_owned(),
                response.body,
            )
        };
        for _ in 0..1000 {
            let (status, body) = ask("/metrics", Duration::ZERO);
            assert_eq!(status, "HTTP/1.1 200 OK");
            assert!(body.contains("vxgate_uptime_seconds 1\n"), "{body}");
        }
        let (status, body) = ask("/healthz", Duration::ZERO);
        assert_eq!((status.as_str(), &*body), ("HTTP/1.1 200 OK", "healthy\n"));
        assert_eq!(looks.get(), 1);
        let (_, body) = ask("/metrics", FRESH);
        assert!(body.contains("vxgate_uptime_seconds 2\n"), "{body}");
        let (status, body) = ask("/", FRESH);
        assert_eq!(status, "HTTP/1.1 404 Not Found");
        assert!(body.contains("/readyz"));
        assert_eq!(looks.get(), 2);
    }

    #[test]
    fn what_is_wrong_is_told_with_503() {
        let look = || {
            let mut seen = samples::observation();
            seen.workers[0].heartbeat_age_ms = 5000;
            seen.reasons = vec!["worker 0 stored no heartbeat".into()];
            Status::new(seen, 1)
        };
        let mut pages = Pages::new(look, Arc::new(512.into()));
        for (path, words) in [
            ("/healthz", "worker 0 has stored no heartbeat for 5000 ms\n"),
            ("/readyz", "worker 0 stored no heartbeat\n"),
        ] {
            let response = pages.answer(path, Instant::now());
            assert!(response.head().starts_with("HTTP/1.1 503 "), "{path}");
            assert_eq!(&*response.body, words);
        }
    }
}
