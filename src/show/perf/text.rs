//! What [`Perf`] looks like on a screen, in the words of Open vSwitch's `pmd-perf-show`.

use std::fmt;

use super::{Perf, QueuePerf, StagesPerf, WorkerPerf};
use crate::show::columns::{Align, Columns};
use crate::show::figures::{figure, percent, short};
use crate::stats::{Batches, Stage};

/// The longest bar of a histogram.
const BAR: f64 = 40.0;

impl fmt::Display for Perf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.workers.is_empty() {
            return writeln!(
                f,
                "there is no worker: the kernel carries all traffic; vxgate status says why"
            );
        }
        for worker in &self.workers {
            head(f, worker, self.seconds)?;
            write!(f, "{}", queues(&worker.queues))?;
        }
        Ok(())
    }
}

impl Perf {
    /// How large the batches were, of each worker.
    pub fn histograms(&self) -> String {
        let of_worker = |worker: &WorkerPerf| {
            let head = format!("worker {}: pkts/batch\n", worker.worker);
            head + &histogram(&worker.batches)
        };
        self.workers.iter().map(of_worker).collect()
    }
}

fn head(f: &mut fmt::Formatter<'_>, worker: &WorkerPerf, seconds: f64) -> fmt::Result {
    let core = worker
        .core
        .map_or("any core".to_owned(), |core| format!("core {core}"));
    let node = worker.numa_node;
    let node = node.map_or(String::new(), |node| format!("  numa {node}"));
    writeln!(f, "worker {}  {core}{node}   {seconds:.1} s", worker.worker)?;
    writeln!(
        f,
        "  Iterations:   {}  ({:.2} us/it, {} with frames)",
        worker.turns,
        worker.ns_per_turn / 1000.0,
        percent(worker.busy_turns, worker.turns)
    )?;
    writeln!(
        f,
        "  Time:         working {:.1} %  spinning {:.1} %  asleep {:.1} %",
        100.0 * worker.working_share,
        100.0 * worker.spinning_share,
        100.0 * worker.asleep_share
    )?;
    writeln!(
        f,
        "  Sleeps:       {}  ({:.0}/s, {} ended by frames)   spins {} ({} found frames)",
        worker.sleeps,
        worker.sleeps as f64 / seconds,
        worker.woken,
        worker.spins,
        percent(worker.spins_found, worker.spins)
    )?;
    write!(
        f,
        "  Rx packets:   {}  ({} pps, {} ns/pkt)",
        worker.received,
        short(worker.received_per_second),
        figure(worker.ns_per_frame, 0)
    )?;
    writeln!(
        f,
        "   Rx batches {} ({} pkts/batch)",
        worker.batches.iter().sum::<u64>(),
        figure(worker.frames_per_batch, 1)
    )?;
    if let Some(stages) = &worker.stages {
        stage_lines(f, stages)?;
    }
    writeln!(
        f,
        "  Tx packets:   {}  ({} pps)   dropped {}, lost before the worker {}",
        worker.forwarded,
        short(worker.forwarded_per_second),
        worker.dropped,
        worker.dropped_by_kernel
    )?;
    let per_call = (worker.calls > 0).then(|| worker.received as f64 / worker.calls as f64);
    writeln!(
        f,
        "  System calls: {}  ({} pkts/call)   pool low {}/{}",
        worker.calls,
        figure(per_call, 1),
        worker.pool_lowest,
        worker.frames
    )
}

fn stage_lines(f: &mut fmt::Formatter<'_>, stages: &StagesPerf) -> fmt::Result {
    write!(f, "   ")?;
    let mut total = 0.0;
    for stage in Stage::ALL {
        let ns = stages.ns_per_frame.get(stage.label());
        let ns = ns.copied().unwrap_or(0.0);
        total += ns;
        write!(f, " {} {ns:.0} ", stage.label())?;
    }
    writeln!(f, "= {total:.0} ns/pkt")?;
    writeln!(
        f,
        "    (of {} pkts in {} turns: the clock was read in 1 turn of {}, which cost {:.2} % of the work)",
        stages.frames,
        stages.turns,
        stages.every,
        100.0 * stages.cost_share
    )
}

fn queues(queues: &[QueuePerf]) -> Columns<11> {
    let mut table = Columns::new([
        ("  PORT", Align::Left),
        ("DIR", Align::Left),
        ("QUEUE", Align::Right),
        ("KIND", Align::Left),
        ("PPS", Align::Right),
        ("PKTS/BATCH", Align::Right),
        ("CALLS", Align::Right),
        ("LOST BEFORE", Align::Right),
        ("RX HIGH", Align::Right),
        ("TX HIGH", Align::Right),
        ("FILL LOW", Align::Right),
    ]);
    for queue in queues {
        let mark = |name: &str| {
            let mut rings = queue.rings.iter();
            let ring = rings.find(|ring| ring.ring == name);
            ring.map_or("-".to_owned(), |ring| {
                format!("{}/{}", ring.mark, ring.size)
            })
        };
        table.row([
            format!("  {}", queue.port),
            queue.direction.clone(),
            queue.queue.to_string(),
            queue.kind.clone(),
            short(queue.received_per_second),
            figure(queue.frames_per_batch, 1),
            queue.calls.to_string(),
            queue.dropped_by_kernel.to_string(),
            mark("rx"),
            mark("tx"),
            mark("fill"),
        ]);
    }
    table
}

/// A line for each size of batches, with a bar.
fn histogram(batches: &[u64]) -> String {
    let total: u64 = batches.iter().sum();
    let most = batches.iter().copied().max().unwrap_or(0).max(1);
    let mut text = String::new();
    let mut first = 1;
    for (bound, count) in Batches::BOUNDS.into_iter().zip(batches) {
        let size = if first == bound {
            bound.to_string()
        } else {
            format!("{first}-{bound}")
        };
        let bar = "#".repeat((BAR * *count as f64 / most as f64).round() as usize);
        let share = percent(*count, total);
        let line = format!("  {size:>5}  {count:>12}  {share:>7}  {bar}");
        text.push_str(line.trim_end());
        text.push('\n');
        first = bound + 1;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SCALE, looks};
    use super::*;

    #[test]
    fn the_text_tells_of_each_worker_and_its_queues() {
        let [before, after] = looks();
        let perf = Perf::between(&before, &after, None, SCALE).unwrap();
        insta::assert_snapshot!(perf);
        insta::assert_snapshot!(perf.histograms());
    }

    #[test]
    fn where_there_is_no_worker_it_is_said_so() {
        let [mut before, mut after] = looks();
        before.workers.clear();
        after.workers.clear();
        let perf = Perf::between(&before, &after, None, SCALE).unwrap();
        assert!(perf.to_string().starts_with("there is no worker"));
    }
}
