//! Prometheus' text format (0.0.4): `# HELP`, `# TYPE`, and a line a series.

use std::collections::HashMap;
use std::fmt::{self, Write};

/// What tells the series of a family apart: names and values.
pub(super) type Labels = Vec<(&'static str, String)>;

/// The value of a counter.
#[derive(Debug, Clone, Copy)]
pub(super) enum Total {
    /// So many.
    Count(u64),
    /// So long, shown in seconds.
    Nanoseconds(u64),
}

/// Where the value of a counter stands in what it is of.
pub(super) type Pick<T> = fn(&T) -> Total;

/// How many of something were of which size.
#[derive(Debug)]
pub(super) struct Histogram {
    /// The largest size that is counted at each place.
    pub bounds: &'static [u32],
    /// How many there were, at each place by itself.
    pub counts: Vec<u64>,
    /// All sizes, added up.
    pub sum: u64,
}

/// The highest values that counters have shown.
///
/// To Prometheus a counter that goes back, be it by one, has begun anew from zero, and its whole value counts as new. Ours
/// may go back a little: a frame that was forwarded turns out to be lost behind the worker, or the kernel does not tell a
/// part of a sum for once. Such a counter stands still until it gets where it had been. All begin anew with a takeover.
#[derive(Debug, Default)]
pub(super) struct Marks {
    takeovers: u64,
    highest: HashMap<String, u64>,
}

impl Marks {
    /// Forgets what was of another takeover.
    pub fn begin(&mut self, takeovers: u64) {
        if self.takeovers != takeovers {
            self.highest.clear();
            self.takeovers = takeovers;
        }
    }

    /// What to show of a counter that has this value now.
    fn raise(&mut self, series: &str, value: u64) -> u64 {
        match self.highest.get_mut(series) {
            Some(highest) => {
                *highest = value.max(*highest);
                *highest
            }
            None => {
                self.highest.insert(series.to_owned(), value);
                value
            }
        }
    }
}

/// A page that is being written.
pub(super) struct Exposition<'a> {
    text: String,
    marks: &'a mut Marks,
}

impl<'a> Exposition<'a> {
    /// An empty page.
    pub fn new(marks: &'a mut Marks) -> Self {
        Self {
            text: String::new(),
            marks,
        }
    }

    /// Writes a family of counters, whose name ends in `_total`; nothing where it has no series.
    pub fn counter(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, Total)>,
    ) {
        debug_assert!(name.ends_with("_total"));
        let mut first = true;
        for (labels, total) in series {
            self.head(&mut first, name, "counter", help);
            let series = Series(name, &labels).to_string();
            match total {
                Total::Count(value) => {
                    let value = self.marks.raise(&series, value);
                    self.line(&series, value);
                }
                Total::Nanoseconds(value) => {
                    let seconds = self.marks.raise(&series, value) as f64 / 1e9;
                    self.line(&series, seconds);
                }
            }
        }
    }

    /// Writes several such families of the same things: the name of each, what it means, and where its value stands.
    pub fn counters<'t, T: 't>(
        &mut self,
        families: &[(&str, &str, Pick<T>)],
        things: impl Iterator<Item = (Labels, &'t T)> + Clone,
    ) {
        for (name, help, pick) in families {
            let series = things.clone();
            self.counter(
                name,
                help,
                series.map(|(labels, thing)| (labels, pick(thing))),
            );
        }
    }

    /// The same for counters that may begin anew by themselves, and are shown as they are.
    pub fn counter_as_it_is(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        debug_assert!(name.ends_with("_total"));
        let mut first = true;
        for (labels, value) in series {
            self.head(&mut first, name, "counter", help);
            self.line(&Series(name, &labels).to_string(), value);
        }
    }

    /// Writes a family of gauges; nothing where it has no series.
    pub fn gauge(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        let mut first = true;
        for (labels, value) in series {
            self.head(&mut first, name, "gauge", help);
            self.line(&Series(name, &labels).to_string(), value);
        }
    }

    /// Writes a family of histograms; nothing where it has no series.
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, Histogram)>,
    ) {
        let mut first = true;
        for (labels, histogram) in series {
            self.head(&mut first, name, "histogram", help);
            let mut total = 0;
            let bounds = histogram.bounds.iter().map(u32::to_string);
            for (bound, count) in bounds.zip(&histogram.counts) {
                total += count;
                self.bucket(name, &labels, bound, total);
            }
            self.bucket(name, &labels, "+Inf".to_owned(), total);
            self.risen(&Series(&format!("{name}_sum"), &labels), histogram.sum);
            self.risen(&Series(&format!("{name}_count"), &labels), total);
        }
    }

    fn bucket(&mut self, name: &str, labels: &Labels, bound: String, total: u64) {
        let mut labels = labels.clone();
        labels.push(("le", bound));
        self.risen(&Series(&format!("{name}_bucket"), &labels), total);
    }

    /// A number that never goes back.
    fn risen(&mut self, series: &Series<'_>, value: u64) {
        let series = series.to_string();
        let value = self.marks.raise(&series, value);
        self.line(&series, value);
    }

    /// The page.
    pub fn finish(self) -> String {
        self.text
    }

    fn head(&mut self, first: &mut bool, name: &str, kind: &str, help: &str) {
        if std::mem::take(first) {
            self.text
                .push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        }
    }

    fn line(&mut self, series: &str, value: impl fmt::Display) {
        self.text.push_str(&format!("{series} {value}\n"));
    }
}

/// A series, as the format writes it.
struct Series<'a>(&'a str, &'a Labels);

impl fmt::Display for Series<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)?;
        let mut open = '{';
        for (name, value) in self.1 {
            write!(f, "{open}{name}=\"")?;
            for c in value.chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    '"' => f.write_str("\\\"")?,
                    '\n' => f.write_str("\\n")?,
                    c => f.write_char(c)?,
                }
            }
            f.write_char('"')?;
            open = ',';
        }
        if self.1.is_empty() {
            return Ok(());
        }
        f.write_char('}')
    }
}

/// A gauge's only series.
pub(super) fn alone(value: f64) -> (Labels, f64) {
    (Vec::new(), value)
}

/// What is true or not, as 1 or 0.
pub(super) fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(marks: &mut Marks, count: u64) -> String {
        let mut page = Exposition::new(marks);
        let labels = |port: &str| vec![("port", port.to_owned()), ("reason", "x".to_owned())];
        page.counter(
            "a_total",
            "How many.",
            [
                (labels("eth1"), Total::Count(count)),
                (labels("a\"b\\c\nd"), Total::Count(7)),
            ],
        );
        page.counter(
            "b_seconds_total",
            "How long.",
            [(vec![], Total::Nanoseconds(1_500_000_000))],
        );
        page.gauge("c", "How much.", [(vec![], 0.25)]);
        page.gauge("none", "There is none.", []);
        page.finish()
    }

    #[test]
    fn a_page_is_what_the_format_asks_for() {
        assert_eq!(
            page(&mut Marks::default(), 3),
            concat!(
                "# HELP a_total How many.\n",
                "# TYPE a_total counter\n",
                "a_total{port=\"eth1\",reason=\"x\"} 3\n",
                "a_total{port=\"a\\\"b\\\\c\\nd\",reason=\"x\"} 7\n",
                "# HELP b_seconds_total How long.\n",
                "# TYPE b_seconds_total counter\n",
                "b_seconds_total 1.5\n",
                "# HELP c How much.\n",
                "# TYPE c gauge\n",
                "c 0.25\n",
            )
        );
    }

    #[test]
    fn a_counter_never_goes_back_but_with_a_takeover() {
        let mut marks = Marks::default();
        let mut shown = |takeovers, count| {
            marks.begin(takeovers);
            let text = page(&mut marks, count);
            let line = text.lines().nth(2).unwrap();
            line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
        };
        assert_eq!(shown(1, 100), 100);
        assert_eq!(shown(1, 99), 100);
        assert_eq!(shown(1, 101), 101);
        assert_eq!(shown(2, 5), 5);
    }
}
