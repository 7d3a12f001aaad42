//! Multiple loss ratio search (draft-ietf-bmwg-mlrsearch): the highest load that a device bears, for several loss goals in
//! one search.
//!
//! A single zero-loss trial proves little: one scheduling gap spoils it, one lucky second flatters it. So a load is judged by
//! many trials. With CSIT's goals (trials of 1 s, 21 s of them, exceed ratio one half) a load is a **lower bound** of a goal
//! when even if all missing trials were bad, no more than half of the 21 s would be; an **upper bound** when even if all
//! missing trials were good, more than half would be; else it is undecided and measured again.
//!
//! ```text
//!   load  min ───────────────── lower bound ══ width ══ upper bound ───────────── max
//!         all goals bear this    the answer's interval    too much for the goal
//! ```
//!
//! Which load comes next, for each goal in turn, the hardest first:
//!
//! 1. `max`; then what came through there; then what came through at that.
//! 2. Downwards or upwards from the bound there is, by twice the width at each step, until the other bound is found.
//! 3. Between the bounds, at their geometric mean, until they are no further apart than the goal's width.
//!
//! Each goal is reached by way of coarser ones (width twice and four times as large, fewer seconds), whose trials all count
//! for the later. The search only decides; whoever runs the trials asks [`Search::next`] and tells [`Search::record`].

/// What a load must fulfil.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Goal {
    /// A trial is good when at most this share of its frames is lost.
    pub loss_ratio: f64,
    /// At most this share of the time may be bad, 0 to below 1.
    pub exceed_ratio: f64,
    /// Seconds of one trial.
    pub trial_s: f64,
    /// Seconds of trials that a verdict is made of.
    pub sum_s: f64,
    /// How far apart the bounds may end: (upper − lower) / upper.
    pub width: f64,
}

impl Goal {
    /// No loss, with CSIT's parameters.
    pub const NDR: Self = Self::csit(0.0);
    /// At most 0.5 % of loss, with CSIT's parameters.
    pub const PDR: Self = Self::csit(0.005);

    const fn csit(loss_ratio: f64) -> Self {
        Self {
            loss_ratio,
            exceed_ratio: 0.5,
            trial_s: 1.0,
            sum_s: 21.0,
            width: 0.005,
        }
    }

    /// The goal as it is pursued `before` steps before the last.
    fn preceding(self, before: i32) -> Self {
        let ratio = (self.sum_s / self.trial_s).max(1.0);
        let share = f64::from(STAGES - 1 - before) / f64::from(STAGES - 1);
        Self {
            sum_s: self.trial_s * ratio.powf(share),
            width: self.width * 2f64.powi(before),
            ..self
        }
    }
}

/// The steps in which a goal is reached.
const STAGES: i32 = 3;

/// One trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// What was meant to be offered, in frames a second.
    pub load_fps: f64,
    /// For how long.
    pub duration_s: f64,
    /// Lost of what was to be sent, 0 to 1. Frames that the generator could not send count as lost: it is the load that is
    /// judged.
    pub loss_ratio: f64,
}

impl Trial {
    fn forwarded_fps(&self) -> f64 {
        self.load_fps * (1.0 - self.loss_ratio)
    }
}

/// What the trials at a load say of a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The device bears it.
    Lower,
    /// It does not.
    Upper,
    /// More trials are needed.
    Undecided,
}

/// The answer for one goal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer {
    /// Both bounds, closer than the goal's width.
    Bounds {
        /// The highest load that was borne.
        lower_fps: f64,
        /// The lowest that was not, above it.
        upper_fps: f64,
        /// What came through at the lower bound in the worst part of the time that the goal still counts: the figure to
        /// quote (conditional throughput).
        throughput_fps: f64,
    },
    /// Even the highest load is borne: the limit is elsewhere, perhaps in the generator.
    AtMax {
        /// As above.
        throughput_fps: f64,
    },
    /// Not even the lowest load is.
    BelowMin,
}

/// A search between two loads.
#[derive(Debug, Clone)]
pub struct Search {
    goals: Vec<Goal>,
    min_fps: f64,
    max_fps: f64,
    trials: Vec<Trial>,
}

/// Loads closer than this are the same.
const SAME: f64 = 1e-9;

impl Search {
    /// A search for these goals. `0 < min_fps < max_fps`; the goals' loss ratios rise.
    pub fn new(goals: &[Goal], min_fps: f64, max_fps: f64) -> Self {
        Self {
            goals: goals.to_vec(),
            min_fps,
            max_fps,
            trials: Vec::new(),
        }
    }

    /// Takes the outcome of a trial in.
    pub fn record(&mut self, trial: Trial) {
        self.trials.push(trial);
    }

    /// All trials so far, in their order.
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// The load in frames a second and the seconds of the trial to run next; none when every goal has its answer.
    pub fn next(&self) -> Option<(f64, f64)> {
        let first = self.goals.first()?;
        if let Some(load) = self.opening() {
            return Some((load, first.trial_s));
        }
        (0..STAGES).rev().find_map(|before| {
            self.goals.iter().find_map(|goal| {
                let goal = goal.preceding(before);
                self.wanted(&goal).map(|load| (load, goal.trial_s))
            })
        })
    }

    /// The answer for a goal; none while the search goes on.
    pub fn answer(&self, goal: &Goal) -> Option<Answer> {
        let (lower, upper) = self.bounds(goal);
        match (lower, upper) {
            (Some(lower_fps), Some(upper_fps)) if width(lower_fps, upper_fps) <= goal.width => {
                Some(Answer::Bounds {
                    lower_fps,
                    upper_fps,
                    throughput_fps: self.throughput(lower_fps, goal),
                })
            }
            (Some(lower), None) if same(lower, self.max_fps) => Some(Answer::AtMax {
                throughput_fps: self.throughput(lower, goal),
            }),
            (None, Some(upper)) if same(upper, self.min_fps) => Some(Answer::BelowMin),
            _ => None,
        }
    }

    /// What the trials at a load say.
    pub fn class(&self, load_fps: f64, goal: &Goal) -> Class {
        let sums = self.sums(load_fps, goal);
        let whole = (sums.full_good + sums.bad).max(goal.sum_s);
        let allowed = whole * goal.exceed_ratio;
        let borne_at_best = sums.bad <= allowed + SAME;
        let borne_at_worst = whole - sums.full_good <= allowed + SAME;
        match (borne_at_best, borne_at_worst) {
            (true, true) => Class::Lower,
            (false, false) => Class::Upper,
            _ => Class::Undecided,
        }
    }

    /// The first three loads, which tell roughly where the limits are.
    fn opening(&self) -> Option<f64> {
        match self.trials.as_slice() {
            [] => Some(self.max_fps),
            [first] => Some(self.within(first.forwarded_fps())),
            [_, second] => Some(self.within(second.forwarded_fps())),
            _ => None,
        }
    }

    fn within(&self, load: f64) -> f64 {
        load.clamp(self.min_fps, self.max_fps)
    }

    /// Where this goal needs a trial.
    fn wanted(&self, goal: &Goal) -> Option<f64> {
        if self.answer(goal).is_some() {
            return None;
        }
        let candidate = match self.bounds(goal) {
            (Some(lower), Some(upper)) => (lower * upper).sqrt(),
            (None, Some(upper)) => self.step(upper, -1.0, goal),
            (Some(lower), None) => self.step(lower, 1.0, goal),
            (None, None) => self.undecided(goal).unwrap_or(self.max_fps),
        };
        // A load between the bounds that has trials but no verdict comes before a new one.
        let (lower, upper) = self.bounds(goal);
        let between = |load: &f64| {
            lower.is_none_or(|lower| *load > lower) && upper.is_none_or(|upper| *load < upper)
        };
        let started = self.loads().filter(between).find(|load| {
            let enough = self.sums(*load, goal).any();
            enough && self.class(*load, goal) == Class::Undecided
        });
        Some(started.unwrap_or(candidate))
    }

    fn undecided(&self, goal: &Goal) -> Option<f64> {
        self.loads()
            .rfind(|load| self.class(*load, goal) == Class::Undecided)
    }

    /// From a bound outwards: twice as far for each bound of this kind that was found already.
    fn step(&self, bound: f64, direction: f64, goal: &Goal) -> f64 {
        let class = if direction < 0.0 {
            Class::Upper
        } else {
            Class::Lower
        };
        let found = self
            .loads()
            .filter(|load| self.class(*load, goal) == class)
            .count();
        let share = goal.width * 2f64.powi(found.min(20) as i32);
        let next = if direction < 0.0 {
            bound * (1.0 - share.min(0.5))
        } else {
            bound / (1.0 - share.min(0.5))
        };
        self.within(next)
    }

    /// The highest lower bound below the lowest upper bound, and that one, as far as they are known.
    pub fn bounds(&self, goal: &Goal) -> (Option<f64>, Option<f64>) {
        let of = |class| {
            self.loads()
                .filter(move |load| self.class(*load, goal) == class)
        };
        let upper = of(Class::Upper).next();
        let lower = of(Class::Lower).rfind(|load| upper.is_none_or(|upper| *load < upper));
        (lower, upper)
    }

    /// Every load that has trials, once, rising.
    fn loads(&self) -> impl DoubleEndedIterator<Item = f64> {
        let mut loads: Vec<_> = self.trials.iter().map(|trial| trial.load_fps).collect();
        loads.sort_by(f64::total_cmp);
        loads.dedup_by(|a, b| same(*a, *b));
        loads.into_iter()
    }

    /// Seconds of good and bad trials at a load. Short trials that were good only make up for short ones that were bad.
    fn sums(&self, load_fps: f64, goal: &Goal) -> Sums {
        let mut sums = Sums::default();
        let (mut short_good, mut short_bad) = (0.0, 0.0);
        for trial in self
            .trials
            .iter()
            .filter(|trial| same(trial.load_fps, load_fps))
        {
            let full = trial.duration_s + SAME >= goal.trial_s;
            let good = trial.loss_ratio <= goal.loss_ratio;
            let sum = match (full, good) {
                (true, true) => &mut sums.full_good,
                (true, false) => &mut sums.bad,
                (false, true) => &mut short_good,
                (false, false) => &mut short_bad,
            };
            *sum += trial.duration_s;
        }
        let balance = short_good * goal.exceed_ratio / (1.0 - goal.exceed_ratio);
        sums.bad += f64::max(0.0, short_bad - balance);
        sums
    }

    /// The forwarding rate that the load reaches at least, in all the time but the share that the goal may exceed.
    fn throughput(&self, load_fps: f64, goal: &Goal) -> f64 {
        let mut trials: Vec<_> = self
            .trials
            .iter()
            .filter(|trial| {
                same(trial.load_fps, load_fps) && trial.duration_s + SAME >= goal.trial_s
            })
            .collect();
        trials.sort_by(|a, b| a.loss_ratio.total_cmp(&b.loss_ratio));
        let total: f64 = trials.iter().map(|trial| trial.duration_s).sum();
        let mut left = total.max(goal.sum_s) * (1.0 - goal.exceed_ratio);
        let mut reached = load_fps;
        for trial in trials {
            if left <= SAME {
                break;
            }
            reached = trial.forwarded_fps();
            left -= trial.duration_s;
        }
        reached
    }
}

#[derive(Debug, Default)]
struct Sums {
    full_good: f64,
    bad: f64,
}

impl Sums {
    fn any(&self) -> bool {
        self.full_good + self.bad > 0.0
    }
}

fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= SAME * a.abs().max(b.abs())
}

fn width(lower: f64, upper: f64) -> f64 {
    (upper - lower) / upper
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs a search against a device given as its loss at a load; the number of the trial stands for chance.
    fn run(min: f64, max: f64, device: impl Fn(f64, usize) -> f64) -> Search {
        let mut search = Search::new(&[Goal::NDR, Goal::PDR], min, max);
        while let Some((load_fps, duration_s)) = search.next() {
            let loss_ratio = device(load_fps, search.trials().len());
            search.record(Trial {
                load_fps,
                duration_s,
                loss_ratio,
            });
            assert!(search.trials().len() < 2000, "it does not end");
        }
        search
    }

    fn policer(limit: f64) -> impl Fn(f64, usize) -> f64 {
        move |load, _| f64::max(0.0, 1.0 - limit / load)
    }

    #[test]
    fn the_limit_of_a_policed_device_is_found_for_both_goals() {
        let search = run(1e3, 4e6, policer(612_345.0));
        let Some(Answer::Bounds {
            lower_fps,
            upper_fps,
            throughput_fps,
        }) = search.answer(&Goal::NDR)
        else {
            panic!("{:?}", search.answer(&Goal::NDR));
        };
        assert!(
            lower_fps <= 612_345.0 && upper_fps > 612_345.0,
            "{lower_fps} {upper_fps}"
        );
        assert!((upper_fps - lower_fps) / upper_fps <= 0.005);
        assert_eq!(throughput_fps, lower_fps);
        // 0.5 % more may be offered before 0.5 % is lost.
        let limit = 612_345.0 / 0.995;
        let Some(Answer::Bounds {
            lower_fps,
            upper_fps,
            throughput_fps,
        }) = search.answer(&Goal::PDR)
        else {
            panic!("{:?}", search.answer(&Goal::PDR));
        };
        assert!(
            lower_fps <= limit && upper_fps > limit,
            "{lower_fps} {upper_fps}"
        );
        assert!(throughput_fps <= 612_345.0 + 1.0);
    }

    #[test]
    fn a_verdict_takes_half_of_the_time_and_one_second() {
        let mut search = Search::new(&[Goal::NDR], 1.0, 10.0);
        let trial = |loss_ratio| Trial {
            load_fps: 5.0,
            duration_s: 1.0,
            loss_ratio,
        };
        for _ in 0..10 {
            search.record(trial(0.0));
            assert_eq!(search.class(5.0, &Goal::NDR), Class::Undecided);
        }
        search.record(trial(0.0));
        assert_eq!(
            search.class(5.0, &Goal::NDR),
            Class::Lower,
            "11 of 21 are good"
        );
        let mut search = Search::new(&[Goal::NDR], 1.0, 10.0);
        for _ in 0..10 {
            search.record(trial(0.1));
            assert_eq!(search.class(5.0, &Goal::NDR), Class::Undecided);
        }
        search.record(trial(0.1));
        assert_eq!(
            search.class(5.0, &Goal::NDR),
            Class::Upper,
            "11 of 21 are bad"
        );
    }

    #[test]
    fn short_good_trials_make_up_for_short_bad_ones_only() {
        let mut search = Search::new(&[Goal::NDR], 1.0, 10.0);
        let mut record = |duration_s, loss_ratio| {
            search.record(Trial {
                load_fps: 5.0,
                duration_s,
                loss_ratio,
            });
        };
        (0..100).for_each(|_| record(0.5, 0.0));
        assert_eq!(
            search.class(5.0, &Goal::NDR),
            Class::Undecided,
            "none is long enough"
        );
    }

    /// One bad second in five does not hide the limit: that is what the exceed ratio is for.
    #[test]
    fn gaps_that_come_now_and_then_do_not_hide_the_limit() {
        let search = run(1e3, 4e6, |load, trial| {
            let base = f64::max(0.0, 1.0 - 300_000.0 / load);
            if trial % 5 == 4 { base.max(0.08) } else { base }
        });
        let Some(Answer::Bounds { lower_fps, .. }) = search.answer(&Goal::NDR) else {
            panic!("{:?}", search.answer(&Goal::NDR));
        };
        assert!((lower_fps / 300_000.0 - 1.0).abs() < 0.01, "{lower_fps}");
    }

    #[test]
    fn a_device_without_limit_and_one_that_bears_nothing_are_told() {
        let search = run(1e3, 1e6, |_, _| 0.0);
        assert_eq!(
            search.answer(&Goal::NDR),
            Some(Answer::AtMax {
                throughput_fps: 1e6
            })
        );
        let search = run(1e3, 1e6, |_, _| 1.0);
        assert_eq!(search.answer(&Goal::PDR), Some(Answer::BelowMin));
    }

    #[test]
    fn coarser_goals_come_first() {
        let steps: Vec<_> = (0..STAGES)
            .rev()
            .map(|before| Goal::NDR.preceding(before))
            .collect();
        assert_eq!(steps[0].sum_s, 1.0);
        assert_eq!(steps[0].width, 0.02);
        assert_eq!(steps[2], Goal::NDR);
        assert!(steps[1].sum_s > 4.5 && steps[1].sum_s < 4.6);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_limit_is_found_within_the_width(limit in 2e3..3.9e6f64) {
            let search = run(1e3, 4e6, policer(limit));
            for (goal, limit) in [(Goal::NDR, limit), (Goal::PDR, limit / 0.995)] {
                match search.answer(&goal) {
                    Some(Answer::Bounds { lower_fps, upper_fps, .. }) => {
                        prop_assert!(lower_fps <= limit * (1.0 + 1e-9) && limit <= upper_fps);
                        prop_assert!(width(lower_fps, upper_fps) <= goal.width);
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            prop_assert!(search.trials().len() < 150, "{} trials", search.trials().len());
        }
    }
}
