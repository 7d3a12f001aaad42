//! Bars with their spread: groups of them, one below the other, on one scale.

use plotters::style::text_anchor::HPos;

use super::paint::{CARD, Canvas, GRID, INK, MUTED, Paint, Type, draw};
use super::scale::Axis;
use crate::loadgen::comparison::Spread;

/// Groups of bars on one scale.
#[derive(Debug, Clone)]
pub(super) struct BarPlot {
    pub x: Axis,
    pub groups: Vec<Group>,
    /// How a value is written.
    pub write: fn(f64) -> String,
}

/// Bars that are compared with each other.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub name: String,
    pub bars: Vec<Bar>,
}

/// A value, or why there is none.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub name: String,
    pub paint: Paint,
    pub value: Result<Spread, String>,
}

const WIDTH: u32 = 860;
/// From where to where the bars go; to the right of it stand the values.
const LEFT: i32 = 84;
const RIGHT: i32 = 640;
const TOP: i32 = 8;
const TITLE_HEIGHT: i32 = 26;
const BAR_HEIGHT: i32 = 16;
const BAR_STEP: i32 = 23;
const GROUP_GAP: i32 = 12;
const AXIS_HEIGHT: i32 = 44;

impl Group {
    fn height(&self) -> i32 {
        TITLE_HEIGHT + self.bars.len() as i32 * BAR_STEP + GROUP_GAP
    }
}

impl BarPlot {
    /// The drawing; none without bars.
    pub(super) fn svg(&self) -> Option<String> {
        self.groups.iter().find(|group| !group.bars.is_empty())?;
        let bottom = TOP + self.groups.iter().map(Group::height).sum::<i32>();
        let size = (WIDTH, (bottom + AXIS_HEIGHT).unsigned_abs());
        Some(draw(size, |canvas| {
            self.axis(canvas, bottom);
            let mut top = TOP;
            for group in &self.groups {
                self.group(canvas, group, top);
                top += group.height();
            }
        }))
    }

    fn axis(&self, canvas: &Canvas<'_>, bottom: i32) {
        for (place, text) in self.x.ticks() {
            let x = self.x_of_place(*place);
            canvas.line(vec![(x, TOP + TITLE_HEIGHT - 4), (x, bottom)], GRID, 1);
            canvas.text(text, (x, bottom + 12), plain(MUTED, HPos::Center));
        }
        let middle = (LEFT + RIGHT) / 2;
        canvas.text(
            &self.x.name,
            (middle, bottom + 32),
            plain(MUTED, HPos::Center),
        );
    }

    fn group(&self, canvas: &Canvas<'_>, group: &Group, top: i32) {
        let title = Type {
            bold: true,
            size: 13.0,
            ..plain(INK, HPos::Left)
        };
        canvas.text(&group.name, (0, top + 12), title);
        for (number, bar) in (0..).zip(&group.bars) {
            let top = top + TITLE_HEIGHT + number * BAR_STEP;
            let middle = top + BAR_HEIGHT / 2;
            canvas.text(&bar.name, (LEFT - 10, middle), plain(INK, HPos::Right));
            match &bar.value {
                Ok(spread) => self.bar(canvas, bar.paint, spread, top),
                Err(why) => canvas.text(why, (LEFT + 6, middle), plain(MUTED, HPos::Left)),
            }
        }
    }

    /// To the median; a line from the least to the most.
    fn bar(&self, canvas: &Canvas<'_>, paint: Paint, spread: &Spread, top: i32) {
        let middle = top + BAR_HEIGHT / 2;
        let x = |value| self.x_of_place(self.x.place(value));
        let end = x(spread.median).max(LEFT + 1);
        canvas.area([(LEFT, top), (end, top + BAR_HEIGHT)], paint);
        let (low, high) = (x(spread.min), x(spread.max));
        if high > low && !self.x.ends_before(spread.max) {
            canvas.line(vec![(low, middle), (high, middle)], INK, 2);
            for x in [low, high] {
                canvas.line(vec![(x, middle - 4), (x, middle + 4)], INK, 2);
            }
        }
        if self.x.ends_before(spread.median) {
            // Torn off: it goes on beyond the axis.
            for x in [end - 14, end - 9] {
                canvas.line(vec![(x, top + BAR_HEIGHT), (x + 5, top)], CARD, 3);
            }
        }
        let write = self.write;
        let value = Type {
            bold: true,
            ..plain(INK, HPos::Left)
        };
        canvas.text(&write(spread.median), (RIGHT + 16, middle), value);
        if spread.max > spread.min {
            let range = format!("{} – {}", write(spread.min), write(spread.max));
            canvas.text(&range, (RIGHT + 82, middle), plain(MUTED, HPos::Left));
        }
    }

    fn x_of_place(&self, place: f64) -> i32 {
        let (low, high) = self.x.range();
        LEFT + ((place - low) / (high - low) * f64::from(RIGHT - LEFT)).round() as i32
    }
}

fn plain(paint: Paint, at: HPos) -> Type {
    Type {
        paint,
        size: 12.0,
        bold: false,
        at,
    }
}

#[cfg(test)]
mod tests {
    use super::super::paint::{KERNEL, OVS};
    use super::super::scale::Scale;
    use super::*;

    #[test]
    fn a_bar_a_value_and_the_reason_where_there_is_none() {
        let spread = Spread::of(&[1.0, 2.0, 4.0]).unwrap();
        let bar = |name: &str, paint, value| Bar {
            name: name.to_owned(),
            paint,
            value,
        };
        let group = Group {
            name: "decap/64".to_owned(),
            bars: vec![
                bar("kernel", KERNEL, Ok(spread)),
                bar("ovs", OVS, Err("not measured: <none>".to_owned())),
            ],
        };
        let mut plot = BarPlot {
            x: Axis::new("x", Scale::Linear, [4.0], |value| value.to_string()),
            groups: vec![group],
            write: |value| format!("{value:.1}"),
        };
        let svg = plot.svg().unwrap();
        assert_eq!(svg.matches("<rect").count(), 1, "{svg}");
        for words in [
            "1.0 – 4.0",
            "not measured: &lt;none&gt;",
            "fill=\"var(--kernel)\"",
        ] {
            assert!(svg.contains(words), "{words}: {svg}");
        }
        plot.groups.clear();
        assert_eq!(plot.svg(), None);
    }
}
