//! One row of a comparison: every contender's values, and how they compare round by round.

use serde::Serialize;

use super::measure::{Better, Contender, Measure};
use super::spread::Spread;

/// Fewer rounds than this are too few for a claim.
pub const ROUNDS_MIN: usize = 5;

/// The unit of rows that say what a frame costs, of which the control's part can be told.
const COST_OF_A_FRAME: &str = "ns/frame";

/// What was measured, of everybody.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its name, such as `decap/64/ndr`.
    pub row: String,
    /// What the values count.
    pub unit: String,
    /// Whether much of it is good.
    pub better: Better,
    /// How many rounds there were, those without a value included.
    pub rounds: usize,
    /// Everybody who was measured, or should have been.
    pub devices: Vec<Values>,
    /// Pairs of them, round by round.
    pub ratios: Vec<Ratio>,
    /// The same of what each costs beyond the control, where that was measured too and the values are costs of a frame.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ratios_beyond_control: Vec<Ratio>,
    /// What measures it again, contender by contender.
    pub commands: Vec<String>,
}

/// One contender's values.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Values {
    /// Who.
    pub device: Contender,
    /// Over the rounds with a value; none when no round has one.
    #[serde(flatten)]
    pub spread: Option<Spread>,
    /// Every round.
    pub values: Vec<RoundValue>,
}

/// One round's value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RoundValue {
    /// Which file, from 0, and which round in it.
    #[serde(skip)]
    pub sitting: (usize, u32),
    /// The round, over all files.
    pub round: usize,
    /// The result.
    pub value: Option<f64>,
    /// What else is to be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One contender's value divided by another's of the same round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratio {
    /// Whose value is divided.
    pub of: Contender,
    /// By whose.
    pub to: Contender,
    /// Over the rounds in which both have one (and the divisor is above 0); none when there is no such round.
    #[serde(flatten)]
    pub spread: Option<Spread>,
    /// How many rounds that were.
    pub pairs: usize,
    /// What it shows.
    pub verdict: Verdict,
}

/// What a ratio's spread shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The divided one was better in every round.
    Better,
    /// The divisor was better in every round.
    Worse,
    /// The spread includes 1.
    NoDifferenceShown,
    /// Too few rounds to tell a difference from chance.
    TooFewRounds,
    /// No round has both values.
    NotComparable,
}

impl Row {
    /// Of all measures of one row, which are at least one, with the file that each comes from.
    pub(super) fn new(measures: &[(usize, Measure)], baseline: Contender) -> Option<Self> {
        let (_, first) = measures.first()?;
        let mut sittings: Vec<_> = measures.iter().map(|(file, m)| (*file, m.round)).collect();
        sittings.sort_unstable();
        sittings.dedup();
        let mut contenders: Vec<_> = measures.iter().map(|(_, m)| m.device).collect();
        contenders.sort_unstable();
        contenders.dedup();
        let of = |device| values(device, measures, &sittings);
        let devices: Vec<_> = contenders.into_iter().map(of).collect();
        let mut commands: Vec<String> = Vec::new();
        for (_, measure) in measures {
            if !commands.contains(&measure.command) {
                commands.push(measure.command.clone());
            }
        }
        let better = first.better;
        let ratios = compared(&devices, baseline, better);
        let beyond = match first.unit.as_str() {
            COST_OF_A_FRAME => beyond_control(&devices),
            _ => Vec::new(),
        };
        Some(Self {
            row: first.row.clone(),
            unit: first.unit.clone(),
            better,
            rounds: sittings.len(),
            devices,
            ratios,
            ratios_beyond_control: compared(&beyond, baseline, better),
            commands,
        })
    }
}

fn values(device: Contender, measures: &[(usize, Measure)], sittings: &[(usize, u32)]) -> Values {
    let mut values: Vec<_> = measures
        .iter()
        .filter(|(_, measure)| measure.device == device)
        .map(|(file, measure)| {
            let sitting = (*file, measure.round);
            RoundValue {
                sitting,
                round: sittings.partition_point(|other| *other < sitting) + 1,
                value: measure.value,
                note: measure.note.clone(),
            }
        })
        .collect();
    values.sort_by_key(|value| value.sitting);
    let known: Vec<_> = values.iter().filter_map(|value| value.value).collect();
    Values {
        device,
        spread: Spread::of(&known),
        values,
    }
}

/// Everybody's values less the control's of the same round: generator and sink cost that much with nothing between them. None
/// when the control was not measured, nor of a round in which it was not.
fn beyond_control(devices: &[Values]) -> Vec<Values> {
    let control = devices
        .iter()
        .find(|values| values.device == Contender::None);
    let Some(control) = control else {
        return Vec::new();
    };
    let beyond = |values: &Values| {
        let mut values = values.clone();
        for round in &mut values.values {
            round.value = round
                .value
                .zip(control.of(round.sitting))
                .map(|(value, alone)| value - alone);
        }
        let known: Vec<_> = values
            .values
            .iter()
            .filter_map(|round| round.value)
            .collect();
        values.spread = Spread::of(&known);
        values
    };
    let others = devices
        .iter()
        .filter(|values| values.device != Contender::None);
    others.map(beyond).collect()
}

/// Those pairs that were measured.
fn compared(devices: &[Values], baseline: Contender, better: Better) -> Vec<Ratio> {
    let values = |who| devices.iter().find(|values| values.device == who);
    pairs(baseline)
        .into_iter()
        .filter_map(|(of, to)| Some(ratio(values(of)?, values(to)?, better)))
        .collect()
}

/// Everybody to the baseline, then the other two to each other, and vxgate to the least that there could be. The control
/// competes with nobody.
fn pairs(baseline: Contender) -> Vec<(Contender, Contender)> {
    let mut others = vec![Contender::Vxgate, Contender::Ovs, Contender::Kernel];
    others.retain(|contender| *contender != baseline);
    let mut pairs: Vec<_> = others.iter().map(|other| (*other, baseline)).collect();
    if let [first, second] = *others {
        pairs.push((first, second));
    }
    pairs.push((Contender::Bare, baseline));
    if baseline != Contender::Vxgate {
        pairs.push((Contender::Vxgate, Contender::Bare));
    }
    pairs
}

fn ratio(of: &Values, to: &Values, better: Better) -> Ratio {
    let mut ratios = Vec::new();
    for divided in &of.values {
        if let (Some(value), Some(divisor)) = (divided.value, to.of(divided.sitting))
            // Less than nothing is what remains of a cost that was lost in the noise.
            && divisor > 0.0
        {
            ratios.push(value / divisor);
        }
    }
    let spread = Spread::of(&ratios);
    Ratio {
        of: of.device,
        to: to.device,
        spread,
        pairs: ratios.len(),
        verdict: judge(spread, ratios.len(), better),
    }
}

fn judge(spread: Option<Spread>, pairs: usize, better: Better) -> Verdict {
    match spread {
        None => Verdict::NotComparable,
        Some(spread) if spread.includes(1.0) => Verdict::NoDifferenceShown,
        Some(_) if pairs < ROUNDS_MIN => Verdict::TooFewRounds,
        Some(spread) if (spread.median > 1.0) == (better == Better::Higher) => Verdict::Better,
        Some(_) => Verdict::Worse,
    }
}

impl Ratio {
    /// Who by whom.
    pub fn name(&self) -> String {
        format!("{}/{}", self.of, self.to)
    }

    /// The verdict in words.
    pub fn words(&self) -> String {
        match self.verdict {
            Verdict::Better => format!("{} better", self.of),
            Verdict::Worse => format!("{} better", self.to),
            Verdict::NoDifferenceShown => "no difference shown".to_owned(),
            Verdict::TooFewRounds => format!("{} of {ROUNDS_MIN} rounds: too few", self.pairs),
            Verdict::NotComparable => "not comparable".to_owned(),
        }
    }
}

impl Values {
    /// That of one round.
    fn of(&self, sitting: (usize, u32)) -> Option<f64> {
        let mut rounds = self.values.iter();
        rounds.find(|round| round.sitting == sitting)?.value
    }

    /// Rounds without a value, and what is noted of others, each said once.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for value in &self.values {
            let note = match (&value.note, value.value) {
                (Some(note), None) => format!("round {}: not measured: {note}", value.round),
                (Some(note), Some(_)) => format!("round {}: {note}", value.round),
                (None, _) => continue,
            };
            notes.push(note);
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(device: Contender, round: u32, value: Option<f64>) -> Measure {
        Measure {
            device,
            row: "decap/64/ndr".to_owned(),
            round,
            value,
            unit: "frames/s".to_owned(),
            better: Better::Higher,
            command: format!("scripts/bench.sh --device {device}"),
            note: value.is_none().then(|| "no such device".to_owned()),
        }
    }

    fn row(kernel: &[f64], vxgate: &[f64], better: Better) -> Row {
        let of = |device, values: &[f64]| -> Vec<_> {
            let numbered = (1..).zip(values);
            numbered
                .map(|(round, value)| Measure {
                    better,
                    ..measure(device, round, Some(*value))
                })
                .collect()
        };
        let all = [of(Contender::Kernel, kernel), of(Contender::Vxgate, vxgate)].concat();
        let all: Vec<_> = all.into_iter().map(|measure| (0, measure)).collect();
        Row::new(&all, Contender::Kernel).unwrap()
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        // Both drift alike: the medians' spread overlaps, the ratios' does not.
        let row = row(
            &[100.0, 200.0, 300.0, 400.0, 500.0],
            &[110.0, 220.0, 330.0, 440.0, 550.0],
            Better::Higher,
        );
        let [ratio] = row.ratios.as_slice() else {
            panic!("one pair")
        };
        let spread = ratio.spread.unwrap();
        assert!((spread.min - 1.1).abs() < 1e-9 && (spread.max - 1.1).abs() < 1e-9);
        assert_eq!((ratio.verdict, ratio.pairs), (Verdict::Better, 5));
        assert_eq!(ratio.words(), "vxgate better");
    }

    #[test]
    fn the_direction_decides_who_is_better() {
        let (few, many) = ([10.0; 5], [20.0; 5]);
        assert_eq!(
            row(&many, &few, Better::Lower).ratios[0].words(),
            "vxgate better"
        );
        assert_eq!(
            row(&few, &many, Better::Lower).ratios[0].words(),
            "kernel better"
        );
        assert_eq!(
            row(&many, &few, Better::Higher).ratios[0].words(),
            "kernel better"
        );
    }

    #[test]
    fn a_spread_with_1_in_it_and_few_rounds_show_nothing() {
        let crossing = row(&[10.0; 5], &[9.0, 11.0, 11.0, 11.0, 11.0], Better::Higher);
        assert_eq!(crossing.ratios[0].verdict, Verdict::NoDifferenceShown);
        let few = row(&[10.0; 4], &[20.0; 4], Better::Higher);
        assert_eq!(few.ratios[0].words(), "4 of 5 rounds: too few");
        let zero = row(&[0.0; 5], &[20.0; 5], Better::Higher);
        assert_eq!(
            (zero.ratios[0].verdict, zero.ratios[0].pairs),
            (Verdict::NotComparable, 0)
        );
    }

    #[test]
    fn what_the_control_costs_is_nobodys() {
        let cost = |unit: &str, control: &[f64]| {
            let of = |device, values: &[f64]| -> Vec<_> {
                let measure = |(round, value): (u32, &f64)| Measure {
                    unit: unit.to_owned(),
                    better: Better::Lower,
                    ..measure(device, round, Some(*value))
                };
                (1..).zip(values).map(measure).collect()
            };
            let all = [
                of(Contender::None, control),
                of(Contender::Bare, &[1100.0, 1200.0, 1300.0, 1400.0, 1500.0]),
                of(Contender::Kernel, &[2000.0, 2100.0, 2200.0, 2300.0, 2400.0]),
                of(Contender::Vxgate, &[1250.0, 1350.0, 1450.0, 1550.0, 1650.0]),
            ]
            .concat();
            let all: Vec<_> = all.into_iter().map(|measure| (0, measure)).collect();
            Row::new(&all, Contender::Kernel).unwrap()
        };
        let row = cost(COST_OF_A_FRAME, &[1000.0, 1100.0, 1200.0, 1300.0]);
        let names: Vec<_> = row.ratios_beyond_control.iter().map(Ratio::name).collect();
        assert_eq!(names, ["vxgate/kernel", "bare/kernel", "vxgate/bare"]);
        let medians = row.ratios_beyond_control.iter().map(|ratio| {
            let spread = ratio.spread.unwrap();
            (
                spread.median,
                spread.min.to_bits() == spread.max.to_bits(),
                ratio.pairs,
            )
        });
        // The fifth round has no control.
        assert_eq!(
            medians.collect::<Vec<_>>(),
            [(0.25, true, 4), (0.1, true, 4), (2.5, true, 4)]
        );
        assert_eq!(row.ratios[0].pairs, 5, "with it, all rounds count");
        assert!(row.ratios[0].spread.unwrap().median > 0.6);
        let cheaper_than_nothing = cost(COST_OF_A_FRAME, &[2500.0; 5]);
        assert_eq!(
            cheaper_than_nothing.ratios_beyond_control[0].verdict,
            Verdict::NotComparable
        );
        assert!(cost("us", &[1000.0; 5]).ratios_beyond_control.is_empty());
        assert!(cost(COST_OF_A_FRAME, &[]).ratios_beyond_control.is_empty());
    }

    #[test]
    fn what_was_not_measured_is_not_dropped() {
        let measures = [
            measure(Contender::Kernel, 1, Some(1.0)),
            measure(Contender::Kernel, 2, Some(2.0)),
            measure(Contender::Ovs, 1, None),
            measure(Contender::Ovs, 2, Some(4.0)),
            measure(Contender::None, 1, Some(9.0)),
        ];
        let all: Vec<_> = measures.into_iter().map(|measure| (0, measure)).collect();
        let row = Row::new(&all, Contender::Kernel).unwrap();
        let names: Vec<_> = row
            .devices
            .iter()
            .map(|values| values.device.name())
            .collect();
        assert_eq!((names, row.rounds), (vec!["none", "kernel", "ovs"], 2));
        assert_eq!(
            row.devices[2].notes(),
            ["round 1: not measured: no such device"]
        );
        let [ratio] = row.ratios.as_slice() else {
            panic!("the control competes with nobody")
        };
        assert_eq!(
            (ratio.pairs, ratio.spread.map(|s| s.median)),
            (1, Some(2.0))
        );
        assert_eq!(row.commands.len(), 3);
    }

    #[test]
    fn rounds_of_different_files_are_different_rounds() {
        let (first, second) = (
            measure(Contender::Kernel, 1, Some(1.0)),
            measure(Contender::Vxgate, 1, Some(3.0)),
        );
        let all = [(0, first.clone()), (1, first), (1, second)];
        let row = Row::new(&all, Contender::Kernel).unwrap();
        assert_eq!((row.rounds, row.ratios[0].pairs), (2, 1));
        assert_eq!(row.devices[1].values[0].round, 2);
    }
}
