//! Colours of plots. A drawing is made in stand-ins, which then become the names of colours in the style sheet: those follow
//! the reader's light or dark.

use plotters::coord::Shift;
use plotters::element::Drawable;
use plotters::prelude::{
    Circle, DrawingArea, IntoDrawingArea, PathElement, Rectangle, SVGBackend, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontDesc, FontFamily, FontStyle, RGBColor, ShapeStyle, TextStyle};

/// Where something is, in pixels from the left and from the top.
pub(super) type At = (i32, i32);

/// A colour of the style sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paint(u8);

/// Text.
pub(super) const INK: Paint = Paint(0);
/// Text that steps back.
pub(super) const MUTED: Paint = Paint(1);
/// Lines behind the data.
pub(super) const GRID: Paint = Paint(2);
/// The background, where something must be parted.
pub(super) const CARD: Paint = Paint(3);
/// What was asked for, the ideal.
pub(super) const IDEAL: Paint = Paint(4);
/// The data of a plot that has one series.
pub(super) const MAIN: Paint = Paint(5);
/// Percentiles, from the median to the maximum.
pub(super) const PERCENTILES: [Paint; 5] = [Paint(6), Paint(7), Paint(8), Paint(9), Paint(10)];
/// The control.
pub(super) const NONE: Paint = Paint(11);
/// The kernel's vxlan.
pub(super) const KERNEL: Paint = Paint(12);
/// Open vSwitch.
pub(super) const OVS: Paint = Paint(13);
/// vxgate.
pub(super) const VXGATE: Paint = Paint(14);
/// The least that there could be.
pub(super) const BARE: Paint = Paint(15);

/// Their names in the style sheet.
const NAMES: [&str; 16] = [
    "ink", "muted", "grid", "card", "ideal", "main", "p50", "p90", "p99", "p999", "max", "none",
    "kernel", "ovs", "vxgate", "bare",
];

impl Paint {
    const fn stand_in(self) -> RGBColor {
        RGBColor(0, 0, self.0)
    }

    fn line(self, width: u32) -> ShapeStyle {
        self.stand_in().stroke_width(width)
    }

    fn area(self) -> ShapeStyle {
        self.stand_in().filled()
    }
}

/// How text looks.
#[derive(Clone, Copy)]
pub(super) struct Type {
    /// Its colour.
    pub paint: Paint,
    /// Its size in pixels.
    pub size: f64,
    /// Whether it is bold.
    pub bold: bool,
    /// Whether it begins, is centred or ends at its place.
    pub at: HPos,
}

impl Type {
    fn style(self) -> TextStyle<'static> {
        // The backend writes the size divided by this.
        const EM: f64 = 1.24;
        let style = if self.bold {
            FontStyle::Bold
        } else {
            FontStyle::Normal
        };
        let font = FontDesc::new(FontFamily::SansSerif, self.size * EM, style);
        let mut style = TextStyle::from(font).pos(Pos::new(self.at, VPos::Center));
        style.color = self.paint.stand_in().to_backend_color();
        style
    }
}

/// What is drawn on.
pub(super) struct Canvas<'a>(DrawingArea<SVGBackend<'a>, Shift>);

/// A drawing of this size, in pixels, as an element of a page.
pub(super) fn draw(size: (u32, u32), body: impl FnOnce(&Canvas<'_>)) -> String {
    let mut svg = String::new();
    let canvas = Canvas(SVGBackend::with_string(&mut svg, size).into_drawing_area());
    body(&canvas);
    // It only writes into the string, which cannot fail; and so everywhere below.
    let _ = canvas.0.present();
    drop(canvas);
    themed(&svg)
}

impl Canvas<'_> {
    pub(super) fn line(&self, points: Vec<At>, paint: Paint, width: u32) {
        self.put(&PathElement::new(points, paint.line(width)));
    }

    pub(super) fn area(&self, corners: [At; 2], paint: Paint) {
        self.put(&Rectangle::new(corners, paint.area()));
    }

    pub(super) fn dot(&self, at: At, radius: i32, paint: Paint) {
        self.put(&Circle::new(at, radius, paint.area()));
    }

    pub(super) fn text(&self, text: &str, at: At, how: Type) {
        self.put(&Text::new(text.to_owned(), at, how.style()));
    }

    fn put<'e, E>(&self, element: &'e E)
    where
        &'e E: plotters::element::PointCollection<'e, At>,
        E: for<'b> Drawable<SVGBackend<'b>>,
    {
        let _ = self.0.draw(element);
    }
}

/// The drawing with the style sheet's colours and fonts, and as wide as its place. Text in it is escaped, quotes too, so what
/// is replaced here are attributes.
fn themed(svg: &str) -> String {
    let mut themed = svg
        .replace(" xmlns=\"http://www.w3.org/2000/svg\"", "")
        .replace(" font-family=\"sans-serif\"", "")
        .replace(" opacity=\"1\"", "");
    for (number, name) in NAMES.iter().enumerate() {
        themed = themed.replace(
            &format!("\"#0000{number:02X}\""),
            &format!("\"var(--{name})\""),
        );
    }
    themed
}

#[cfg(test)]
mod tests {
    use super::super::STYLE;
    use super::*;

    #[test]
    fn every_colour_is_in_the_style_sheet_for_light_and_for_dark() {
        for name in NAMES {
            assert!(STYLE.matches(&format!("--{name}:")).count() >= 2, "{name}");
        }
    }

    #[test]
    fn stand_ins_become_names_and_text_stays() {
        let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\"><text fill=\"#00000E\">&quot;#00000E&quot;</text></svg>";
        assert_eq!(
            themed(svg),
            "<svg><text fill=\"var(--vxgate)\">&quot;#00000E&quot;</text></svg>"
        );
    }
}
