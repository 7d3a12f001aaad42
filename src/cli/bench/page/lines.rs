//! Plots of lines and points.

use plotters::style::text_anchor::HPos;

use super::paint::{At, CARD, Canvas, GRID, INK, MUTED, Paint, Type, draw};
use super::scale::Axis;

/// Two axes, and what is on them.
#[derive(Debug, Clone)]
pub(super) struct LinePlot {
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
}

/// Points that belong together. Their name stands at the end of the line, or at the last of them.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub name: String,
    pub paint: Paint,
    pub points: Vec<Point>,
    /// What the line goes through: nothing, when the points are not joined.
    pub line: Vec<(f64, f64)>,
}

/// A value, and how far it spread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub x: f64,
    pub y: f64,
    pub spread: Option<(f64, f64)>,
}

const SIZE: (u32, u32) = (860, 340);
/// Where the axes are: left, top, right, bottom.
const FRAME: (i32, i32, i32, i32) = (72, 34, 764, 292);
/// Names of series keep this distance.
const LINE_HEIGHT: i32 = 16;

impl LinePlot {
    /// The drawing; none without points.
    pub(super) fn svg(&self) -> Option<String> {
        self.series
            .iter()
            .find(|series| !series.points.is_empty() || series.line.len() > 1)?;
        Some(draw(SIZE, |canvas| {
            self.axes(canvas);
            for series in &self.series {
                self.series(canvas, series);
            }
            self.names(canvas);
        }))
    }

    fn axes(&self, canvas: &Canvas<'_>) {
        let (left, top, right, bottom) = FRAME;
        let label = |at| Type {
            paint: MUTED,
            size: 12.0,
            bold: false,
            at,
        };
        for (place, text) in self.y.ticks() {
            let y = self.y_of_place(*place);
            canvas.line(vec![(left, y), (right, y)], GRID, 1);
            canvas.text(text, (left - 8, y), label(HPos::Right));
        }
        for (place, text) in self.x.ticks() {
            let x = self.x_of_place(*place);
            canvas.line(vec![(x, bottom), (x, bottom + 5)], MUTED, 1);
            canvas.text(text, (x, bottom + 17), label(HPos::Center));
        }
        canvas.line(vec![(left, bottom), (right, bottom)], MUTED, 1);
        canvas.text(&self.y.name, (4, top - 22), label(HPos::Left));
        let middle = (left + right) / 2;
        canvas.text(&self.x.name, (middle, bottom + 38), label(HPos::Center));
    }

    fn series(&self, canvas: &Canvas<'_>, series: &Series) {
        let line: Vec<_> = series.line.iter().map(|(x, y)| self.at(*x, *y)).collect();
        if line.len() > 1 {
            canvas.line(line, series.paint, 2);
        }
        for point in &series.points {
            if let Some((low, high)) = point.spread {
                let [(x, low), (_, high)] = [self.at(point.x, low), self.at(point.x, high)];
                canvas.line(vec![(x, low), (x, high)], series.paint, 2);
                for end in [low, high] {
                    canvas.line(vec![(x - 4, end), (x + 4, end)], series.paint, 2);
                }
            }
            let at = self.at(point.x, point.y);
            canvas.dot(at, 5, CARD);
            canvas.dot(at, 4, series.paint);
        }
    }

    /// Each series' name beside its end, from top to bottom, without covering another.
    fn names(&self, canvas: &Canvas<'_>) {
        let mut ends: Vec<_> = self
            .series
            .iter()
            .filter_map(|series| {
                let last = series.points.last().map(|point| (point.x, point.y));
                let end = series.line.last().copied().or(last)?;
                Some((self.at(end.0, end.1), series))
            })
            .filter(|(_, series)| !series.name.is_empty())
            .collect();
        ends.sort_by_key(|((_, y), _)| *y);
        let mut heights: Vec<_> = ends.iter().map(|((_, y), _)| *y).collect();
        part(&mut heights, FRAME.3);
        for (((x, _), series), y) in ends.iter().zip(heights) {
            let how = Type {
                paint: INK,
                size: 12.0,
                bold: true,
                at: HPos::Left,
            };
            let x = x + 12;
            canvas.dot((x + 4, y), 4, series.paint);
            canvas.text(&series.name, (x + 12, y), how);
        }
    }

    fn at(&self, x: f64, y: f64) -> At {
        (
            self.x_of_place(self.x.place(x)),
            self.y_of_place(self.y.place(y)),
        )
    }

    fn x_of_place(&self, place: f64) -> i32 {
        let (low, high) = self.x.range();
        FRAME.0 + ((place - low) / (high - low) * f64::from(FRAME.2 - FRAME.0)).round() as i32
    }

    fn y_of_place(&self, place: f64) -> i32 {
        let (low, high) = self.y.range();
        FRAME.3 - ((place - low) / (high - low) * f64::from(FRAME.3 - FRAME.1)).round() as i32
    }
}

/// Moves heights, which ascend, apart: down, and up again where they would leave the frame.
fn part(heights: &mut [i32], bottom: i32) {
    let mut least = i32::MIN;
    for height in heights.iter_mut() {
        *height = (*height).max(least);
        least = *height + LINE_HEIGHT;
    }
    let mut most = bottom;
    for height in heights.iter_mut().rev() {
        *height = (*height).min(most);
        most = *height - LINE_HEIGHT;
    }
}

#[cfg(test)]
mod tests {
    use super::super::paint::VXGATE;
    use super::super::scale::Scale;
    use super::*;

    #[test]
    fn names_do_not_cover_each_other() {
        let mut heights = [10, 12, 200, 290, 291, 292];
        part(&mut heights, 292);
        assert_eq!(heights, [10, 26, 200, 260, 276, 292]);
    }

    #[test]
    fn a_plot_has_a_point_a_value_and_the_style_sheet_s_colours() {
        let axis = |name| Axis::new(name, Scale::Linear, [1.0, 2.0], |value| value.to_string());
        let point = |x, y| Point {
            x,
            y,
            spread: Some((y - 0.5, y + 0.5)),
        };
        let series = Series {
            name: "<vxgate>".to_owned(),
            paint: VXGATE,
            points: vec![point(1.0, 1.0), point(2.0, 1.5)],
            line: vec![(1.0, 1.0), (2.0, 1.5)],
        };
        let mut plot = LinePlot {
            x: axis("x"),
            y: axis("y"),
            series: vec![series],
        };
        let svg = plot.svg().unwrap();
        assert_eq!(svg.matches("<circle").count(), 5, "{svg}");
        assert!(svg.contains("var(--vxgate)") && svg.contains("&lt;vxgate&gt;"));
        assert!(!svg.contains("#0000") && !svg.contains("http"));
        plot.series.clear();
        assert_eq!(plot.svg(), None);
    }
}
