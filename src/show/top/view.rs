//! The screen of `vxgate top`, at any size.
//!
//! ```text
//!   narrow                       wide (from 150 columns)
//!   title, message               title, message
//!   decap | encap | drops        decap | encap | drops           the last minutes
//!   ports                        ports    | peers
//!   workers                      workers  |
//!   peers  (what is left)        drops    |
//!   drops
//!   keys                         keys
//! ```
//!
//! Tables have no frames: their heads are bars. So nothing but the columns of the last minutes is beyond ASCII, and nothing is told
//! by colour alone.

use std::fmt::Display;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style as Look};
use ratatui::symbols::bar;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph, Sparkline};

use super::{Rates, Top};
use crate::show::Health;
use crate::show::figures::short;

/// From this width on, peers stand beside the rest.
const WIDE: u16 = 150;
/// The width of all tables but the peers' on a wide screen.
const LEFT: u16 = 84;
/// The columns of the last minutes, in ASCII.
const ASCII_BARS: bar::Set = bar::Set {
    full: "#",
    seven_eighths: "%",
    three_quarters: "*",
    five_eighths: "+",
    half: "=",
    three_eighths: "-",
    one_quarter: ":",
    one_eighth: ".",
    empty: " ",
};
const HELP: &[&str] = &[
    " q, Esc       leave",
    " s            sort peers by something else",
    " p, space     stop the screen, and go on",
    " up, down     go through the peers; also a page,",
    "              Home and End",
    " h, ?         this, and back",
    "",
    " Rates are those between the last two looks; a",
    " superframe is one frame at a port, and as many",
    " as its segments at a peer. RX RING is how full",
    " the fullest got in the last minute. NS/PKT is a",
    " worker's time with what the kernel did in it.",
];

impl Top {
    /// Draws the screen.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let charts = if area.height >= 40 { 8 } else { 4 };
        let [title, message, charts, body, keys] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(charts),
            Constraint::Min(0),
            Constraint::Length(1),
        ])
        .areas(area);
        self.draw_title(frame, title);
        self.draw_message(frame, message);
        self.draw_charts(frame, charts);
        match &self.rates {
            Some(rates) if body.width >= WIDE => self.draw_wide(frame, body, rates),
            Some(rates) => self.draw_narrow(frame, body, rates),
            None => {}
        }
        let words = format!(
            " q leave  s sort: {}  p {}  arrows peers  h help",
            self.sort.label(),
            if self.paused { "go on" } else { "pause" }
        );
        frame.render_widget(Paragraph::new(words).style(bar_look()), keys);
        if self.helps {
            draw_help(frame, area);
        }
    }

    fn draw_title(&self, frame: &mut Frame<'_>, area: Rect) {
        let Some(rates) = &self.rates else {
            return frame.render_widget(Paragraph::new("vxgate top"), area);
        };
        let title = rates.title();
        let (front, state) = title.rsplit_once(' ').unwrap_or(("", &title));
        let colour = match rates.state {
            Health::Healthy => Color::Green,
            Health::Degraded => Color::Red,
            Health::Drained => Color::Yellow,
        };
        let pause = if self.paused { "   PAUSED" } else { "" };
        let line = Line::from(vec![
            Span::raw(front),
            Span::raw(" "),
            Span::styled(state, self.coloured(colour).add_modifier(Modifier::BOLD)),
            Span::raw(format!("   every {} s", self.interval_s)),
            Span::styled(pause, Look::new().add_modifier(Modifier::BOLD)),
        ]);
        frame.render_widget(Paragraph::new(line), area);
    }

    /// What is wrong, in one line.
    fn draw_message(&self, frame: &mut Frame<'_>, area: Rect) {
        let (words, look) = match (&self.trouble, &self.rates) {
            (Some(why), _) => (why.clone(), self.alarm()),
            (None, None) => ("waiting for a second look".to_owned(), Look::new()),
            (None, Some(rates)) => match (rates.reasons.as_slice(), rates.warnings.as_slice()) {
                ([first, others @ ..], _) => (and_more(first, others.len()), self.alarm()),
                ([], [first, others @ ..]) => (
                    and_more(&format!("warning: {first}"), others.len()),
                    self.coloured(Color::Yellow),
                ),
                ([], []) => (
                    format!("left to the kernel {}/s", short(rates.passed)),
                    Look::new(),
                ),
            },
        };
        frame.render_widget(Paragraph::new(words).style(look), area);
    }

    fn draw_charts(&self, frame: &mut Frame<'_>, area: Rect) {
        let areas: [Rect; 3] = Layout::horizontal([Constraint::Fill(1); 3])
            .spacing(2)
            .areas(area);
        let rates = self.rates.as_ref();
        let flow = |name: &str, flow: fn(&Rates) -> super::Flow| {
            let flow = rates.map_or_else(super::Flow::default, flow);
            format!("{name} {}/s {}bit/s", short(flow.packets), short(flow.bits))
        };
        let dropped = rates.map_or(0.0, |rates| rates.dropped);
        let charts = [
            (flow("decap", |rates| rates.decap), Color::Cyan),
            (flow("encap", |rates| rates.encap), Color::Blue),
            (format!("drops {}/s", short(dropped)), Color::Red),
        ];
        for (kind, ((words, colour), area)) in charts.into_iter().zip(areas).enumerate() {
            let [head, bars] =
                Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
            let bold = Look::new().add_modifier(Modifier::BOLD);
            frame.render_widget(Paragraph::new(words).style(bold), head);
            let columns = self.history.columns(kind, usize::from(bars.width));
            let set = if self.style.ascii {
                ASCII_BARS
            } else {
                bar::NINE_LEVELS
            };
            let chart = Sparkline::default()
                .data(columns)
                .bar_set(set)
                .style(self.coloured(colour));
            frame.render_widget(chart, bars);
        }
    }

    fn draw_narrow(&self, frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
        let each = (area.height / 5).max(2);
        let (ports, workers) = (
            fitting(rates.ports.len(), each),
            fitting(rates.workers.len(), each),
        );
        // What the peers leave is for the reasons to die.
        let peers = fitting(rates.peers.len(), u16::MAX);
        let taken = ports.saturating_add(workers).saturating_add(peers);
        let left = area.height.saturating_sub(taken);
        let drops = fitting(rates.drops.len(), each.max(left));
        let [ports, workers, peers, drops] = Layout::vertical([
            Constraint::Length(ports),
            Constraint::Length(workers),
            Constraint::Min(0),
            Constraint::Length(drops),
        ])
        .areas(area);
        self.draw_ports(frame, ports, rates);
        self.draw_workers(frame, workers, rates);
        self.draw_peers(frame, peers, rates);
        self.draw_drops(frame, drops, rates);
    }

    fn draw_wide(&self, frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
        let [left, peers] = Layout::horizontal([Constraint::Length(LEFT), Constraint::Min(0)])
            .spacing(2)
            .areas(area);
        let each = (area.height / 3).max(2);
        let [ports, workers, drops] = Layout::vertical([
            Constraint::Length(fitting(rates.ports.len(), each)),
            Constraint::Length(fitting(rates.workers.len(), each)),
            Constraint::Min(0),
        ])
        .spacing(1)
        .areas(left);
        self.draw_ports(frame, ports, rates);
        self.draw_workers(frame, workers, rates);
        self.draw_drops(frame, drops, rates);
        self.draw_peers(frame, peers, rates);
    }

    fn draw_ports(&self, frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
        let looks = rates
            .ports
            .iter()
            .map(|port| self.alarm_if(port.dropped > 0.0));
        draw_table(frame, area, &rates.ports_table(), looks, 0);
    }

    fn draw_workers(&self, frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
        let looks = rates
            .workers
            .iter()
            .map(|worker| self.alarm_if(!worker.alive));
        draw_table(frame, area, &rates.workers_table(), looks, 0);
    }

    fn draw_peers(&self, frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
        let rows = usize::from(area.height.saturating_sub(1));
        let table = rates.peers_table(self.sort, self.from, rows);
        let beyond = rates.peers.len().saturating_sub(self.from + rows);
        let looks = std::iter::repeat(Look::new());
        draw_table(frame, area, &table, looks, beyond);
    }

    fn draw_drops(&self, frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
        if rates.drops.is_empty() {
            let words = "no frame was dropped since the takeover";
            return frame.render_widget(Paragraph::new(words), area);
        }
        let looks = rates
            .drops
            .iter()
            .map(|drop| self.alarm_if(drop.rate > 0.0));
        draw_table(frame, area, &rates.drops_table(), looks, 0);
    }

    fn coloured(&self, colour: Color) -> Look {
        if self.style.colour {
            Look::new().fg(colour)
        } else {
            Look::new()
        }
    }

    fn alarm(&self) -> Look {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn alarm_if(&self, wrong: bool) -> Look {
        if wrong { self.alarm() } else { Look::new() }
    }
}

/// Lines for a head, and a row for each of so many, but no more than that.
fn fitting(rows: usize, most: u16) -> u16 {
    let rows = u16::try_from(rows).unwrap_or(u16::MAX);
    rows.max(1).min(most.saturating_sub(1)) + 1
}

/// A table in the lines of its text, with a look for each row. `beyond` rows are not among its text; they and those that find no
/// room are told in the head.
fn draw_table(
    frame: &mut Frame<'_>,
    area: Rect,
    table: &impl Display,
    looks: impl Iterator<Item = Look>,
    beyond: usize,
) {
    let text = table.to_string();
    let mut lines = text.lines();
    let room = usize::from(area.height.saturating_sub(1));
    let hidden = text.lines().count().saturating_sub(1 + room) + beyond;
    let head = lines.next().unwrap_or_default();
    let head = if hidden > 0 {
        let width = usize::from(area.width);
        let more = format!("+{hidden} more");
        format!("{head:<0$.0$}{more}", width.saturating_sub(more.len()))
    } else {
        head.to_owned()
    };
    let rows = lines
        .zip(looks)
        .map(|(line, look)| Line::styled(line.to_owned(), look));
    let [top, below] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    frame.render_widget(Paragraph::new(head).style(bar_look()), top);
    frame.render_widget(Paragraph::new(rows.collect::<Vec<_>>()), below);
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let (width, height) = (52, HELP.len() as u16 + 2);
    let [area] = Layout::horizontal([Constraint::Max(width)])
        .flex(ratatui::layout::Flex::Center)
        .areas(area);
    let [area] = Layout::vertical([Constraint::Max(height)])
        .flex(ratatui::layout::Flex::Center)
        .areas(area);
    let bar = |words: &'static str| Line::styled(format!("{words:<52}"), bar_look());
    let mut lines = vec![bar(" vxgate top")];
    lines.extend(HELP.iter().map(|line| Line::raw(*line)));
    lines.push(bar(""));
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines), area);
}

fn bar_look() -> Look {
    Look::new().add_modifier(Modifier::REVERSED)
}

fn and_more(first: &str, others: usize) -> String {
    match others {
        0 => first.to_owned(),
        _ => format!("{first} (and {others} more: vxgate status)"),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyCode;

    use super::super::tests::{PLAIN, rates};
    use super::super::{Flow, PeerRate, Style};
    use super::*;

    /// What is on a screen of this size.
    fn screen(top: &Top, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| top.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    /// Five minutes of rates that rise and fall, and in the end something is wrong.
    fn busy(style: Style) -> Top {
        let mut top = Top::new(style, 1.0);
        for second in 0..300_u32 {
            let wave = f64::from(second % 60) / 60.0;
            let mut rates = rates();
            rates.decap.packets *= wave;
            rates.encap.packets *= 1.0 - wave;
            rates.dropped *= f64::from(u8::from(second % 100 > 90));
            top.see(rates);
        }
        let mut last = rates();
        let mut hung = last.workers[0].clone();
        (hung.worker, hung.alive, hung.received) = (1, false, 0.0);
        last.workers.push(hung);
        last.reasons =
            vec!["worker 1 stored no heartbeat for 300 ms: the kernel carries its frames".into()];
        last.state = Health::Degraded;
        let peer = |number: u8| PeerRate {
            addr: [10, 0, 1, number].into(),
            received: Flow {
                packets: 100.0 * f64::from(number),
                bits: 80_000.0 * f64::from(number),
            },
            ..last.peers[0].clone()
        };
        let more: Vec<_> = (1..=60).map(peer).collect();
        last.peers.extend(more);
        top.see(last);
        top
    }

    #[test]
    fn eighty_by_twenty_four() {
        insta::assert_snapshot!(screen(&busy(PLAIN), 80, 24));
    }

    #[test]
    fn two_hundred_by_fifty() {
        insta::assert_snapshot!(screen(&busy(PLAIN), 200, 50));
    }

    #[test]
    fn ascii_has_nothing_else_and_help_covers_the_middle() {
        let mut top = busy(Style {
            colour: true,
            ascii: true,
        });
        assert!(screen(&top, 80, 24).is_ascii());
        top.press(KeyCode::Char('h'));
        insta::assert_snapshot!(screen(&top, 80, 24));
    }

    #[test]
    fn before_the_first_rates_and_without_a_daemon_it_says_so() {
        let mut top = Top::new(PLAIN, 1.0);
        assert!(screen(&top, 80, 24).contains("waiting for a second look"));
        top.miss("no vxgate answers on /run/vxgate/x.sock: waiting for it".into());
        assert!(screen(&top, 80, 24).contains("no vxgate answers"));
        top.see(rates());
        assert!(!screen(&top, 80, 24).contains("no vxgate answers"));
    }

    #[test]
    fn no_size_is_too_small_or_too_large() {
        let mut top = busy(PLAIN);
        top.press(KeyCode::Char('h'));
        for (width, height) in [(1, 1), (10, 5), (40, 10), (80, 24), (500, 200)] {
            screen(&top, width, height);
        }
    }
}
