//! A comparison as comma-separated values: a line for each contender and each pair of a row. The columns are frozen, as those
//! of a measurement are.

use super::{Comparison, Row, Spread};
use crate::loadgen::csv::{line, optional};

/// The names of the columns, in their order. `name` is a contender or a pair such as `vxgate/kernel`, whose `rounds` are those
/// in which both have a value; `kind` is `device`, `ratio`, or `ratio-beyond-control`.
pub const COLUMNS: [&str; 11] = [
    "row", "kind", "name", "unit", "better", "rounds", "min", "median", "max", "remark", "command",
];

impl Comparison {
    /// Header and rows, each ended by a line feed.
    pub fn csv(&self) -> String {
        let header = line(&COLUMNS.map(str::to_owned));
        self.rows
            .iter()
            .map(lines)
            .fold(header, |text, row| text + &row)
    }
}

fn lines(row: &Row) -> String {
    let devices = row.devices.iter().map(|values| {
        let known = values.values.iter().filter(|round| round.value.is_some());
        let notes = values.notes().join("; ");
        let name = values.device.to_string();
        let middle = [
            row.unit.clone(),
            row.better.name().to_owned(),
            known.count().to_string(),
        ];
        fields(
            row,
            ["device".to_owned(), name],
            middle,
            values.spread,
            notes,
        )
    });
    let kinds = [
        ("ratio", &row.ratios),
        ("ratio-beyond-control", &row.ratios_beyond_control),
    ];
    let kinds = kinds.into_iter();
    let ratios = kinds.flat_map(|(kind, ratios)| ratios.iter().map(move |ratio| (kind, ratio)));
    let ratios = ratios.map(|(kind, ratio)| {
        let middle = [
            "1".to_owned(),
            row.better.name().to_owned(),
            ratio.pairs.to_string(),
        ];
        fields(
            row,
            [kind.to_owned(), ratio.name()],
            middle,
            ratio.spread,
            ratio.words(),
        )
    });
    devices.chain(ratios).map(|fields| line(&fields)).collect()
}

fn fields(
    row: &Row,
    who: [String; 2],
    what: [String; 3],
    spread: Option<Spread>,
    remark: String,
) -> Vec<String> {
    let mut fields = vec![row.row.clone()];
    fields.extend(who);
    fields.extend(what);
    fields.extend(numbers(spread));
    fields.extend([remark, row.commands.join("; ")]);
    fields
}

fn numbers(spread: Option<Spread>) -> [String; 3] {
    [
        optional(spread.map(|spread| spread.min)),
        optional(spread.map(|spread| spread.median)),
        optional(spread.map(|spread| spread.max)),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::comparison;
    use super::*;
    use crate::loadgen::csv::tests::fields;

    #[test]
    fn a_line_for_each_contender_and_each_pair() {
        let text = comparison().csv();
        let lines: Vec<_> = text.lines().map(fields).collect();
        assert_eq!(
            text.lines().next(),
            Some("row,kind,name,unit,better,rounds,min,median,max,remark,command")
        );
        let names: Vec<_> = lines[1..].iter().map(|fields| &*fields[2]).collect();
        assert_eq!(
            names,
            [
                "kernel",
                "ovs",
                "vxgate",
                "vxgate/kernel",
                "ovs/kernel",
                "vxgate/ovs"
            ]
        );
        assert!(lines.iter().all(|fields| fields.len() == COLUMNS.len()));
        assert_eq!(lines[1][5..9], ["5", "201000", "203000", "205000"]);
        assert_eq!(
            (&*lines[2][5], &*lines[2][9]),
            ("0", "round 1: not measured: no AF_XDP here")
        );
        assert_eq!((&*lines[4][3], &*lines[4][9]), ("1", "vxgate better"));
        assert_eq!(lines[4][10].matches(';').count(), 2);
    }
}
