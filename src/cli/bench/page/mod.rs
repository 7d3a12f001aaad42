//! Results as a page for a browser: one file that needs no other, no network and no scripts, in light and dark, on small
//! screens and on paper.
//!
//! Names of devices, command lines and notes are other people's text. Everything here takes plain text and escapes it;
//! markup of its own is made by this folder alone. Besides, the page forbids the browser to load or to run anything.

mod bars;
mod comparison;
mod curves;
mod file;
mod lines;
mod measurement;
mod paint;
mod scale;

pub(super) use comparison::comparison;
pub(super) use file::writable;
pub(super) use measurement::measurement;

use lines::LinePlot;

const STYLE: &str = include_str!("style.css");

/// A page that grows from top to bottom.
#[derive(Debug)]
pub(super) struct Page {
    title: String,
    body: String,
}

/// What stands in a cell of a table, and how.
#[derive(Debug, Clone)]
struct Cell {
    text: String,
    /// A line below, in small letters.
    small: String,
    kind: &'static str,
}

/// A number that matters, and a word to it.
#[derive(Debug, Clone)]
struct Tile {
    name: &'static str,
    value: String,
    unit: &'static str,
    word: String,
}

impl Cell {
    fn text(text: impl ToString) -> Self {
        Self {
            text: text.to_string(),
            small: String::new(),
            kind: "text",
        }
    }

    fn number(text: impl ToString) -> Self {
        Self {
            kind: "number",
            ..Self::text(text)
        }
    }

    fn code(text: impl ToString) -> Self {
        Self {
            kind: "code",
            ..Self::text(text)
        }
    }

    /// Sentences, which may need several lines.
    fn words(text: impl ToString) -> Self {
        Self {
            kind: "words",
            ..Self::text(text)
        }
    }
}

impl Page {
    /// A page with a headline, what it is about above it, and a sentence below.
    fn new(about: &str, title: &str, lead: &str) -> Self {
        let body = format!(
            "<header><p class=\"about\">{}</p><h1>{}</h1><p class=\"lead\">{}</p></header>\n",
            escape(about),
            escape(title),
            escape(lead)
        );
        Self {
            title: title.to_owned(),
            body,
        }
    }

    fn heading(&mut self, text: &str) {
        self.body += &format!("<h2>{}</h2>\n", escape(text));
    }

    fn note(&mut self, text: &str) {
        self.body += &format!("<p class=\"note\">{}</p>\n", escape(text));
    }

    /// The numbers that matter most.
    fn tiles(&mut self, tiles: &[Tile]) {
        self.body += "<dl class=\"tiles\">\n";
        for tile in tiles {
            self.body += &format!(
                "<div><dt>{}</dt><dd>{} <span>{}</span><small>{}</small></dd></div>\n",
                escape(tile.name),
                escape(&tile.value),
                escape(tile.unit),
                escape(&tile.word)
            );
        }
        self.body += "</dl>\n";
    }

    /// Names and what they stand for.
    fn facts<'a>(&mut self, facts: impl IntoIterator<Item = (&'a str, String)>) {
        self.body += "<dl class=\"facts\">\n";
        for (name, value) in facts {
            self.body += &format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(&value));
        }
        self.body += "</dl>\n";
    }

    fn code(&mut self, text: &str) {
        self.body += &format!("<pre>{}</pre>\n", escape(text));
    }

    fn table(&mut self, head: &[&str], rows: &[Vec<Cell>]) {
        let kinds = rows.first().map_or(&[][..], Vec::as_slice);
        self.body += "<div class=\"wide\"><table><thead><tr>";
        for (index, name) in head.iter().enumerate() {
            let kind = kinds.get(index).map_or("text", |cell| cell.kind);
            self.body += &format!("<th class=\"{kind}\" scope=\"col\">{}</th>", escape(name));
        }
        self.body += "</tr></thead><tbody>\n";
        for row in rows {
            self.body += "<tr>";
            for Cell { text, small, kind } in row {
                self.body += &format!("<td class=\"{kind}\">{}", escape(text));
                if !small.is_empty() {
                    self.body += &format!("<small>{}</small>", escape(small));
                }
                self.body += "</td>";
            }
            self.body += "</tr>\n";
        }
        self.body += "</tbody></table></div>\n";
    }

    /// A plot of lines, where there is something to plot.
    fn lines(&mut self, title: &str, caption: &str, plot: &LinePlot) {
        self.figure(title, caption, plot.svg());
    }

    /// A drawing: as `paint::themed` has made it.
    fn figure(&mut self, title: &str, caption: &str, svg: Option<String>) {
        let Some(svg) = svg else { return };
        // For who cannot see it; the tables have the numbers.
        let svg = svg.replacen(
            "<svg",
            &format!("<svg role=\"img\" aria-label=\"{}\"", escape(title)),
            1,
        );
        self.body += &format!(
            "<figure><figcaption><strong>{}</strong> {}</figcaption><div class=\"wide\">{svg}</div></figure>\n",
            escape(title),
            escape(caption)
        );
    }

    /// The whole document.
    fn html(&self) -> String {
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{}</main>\n\
             <footer>Made by vxgate {}. This page is whole: it loads nothing and runs nothing.</footer>\n</body>\n</html>\n",
            escape(&self.title),
            self.body,
            env!("CARGO_PKG_VERSION")
        )
    }
}

/// Text as HTML shows it, in elements and in quoted attributes. Control characters, which no document may have, become U+FFFD.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(char),
            _ if char.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            _ => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const WILD: &str = "</title><script>alert('1')</script>\"&\u{7}";

    #[test]
    fn text_stays_text_wherever_it_stands() {
        let mut page = Page::new(WILD, WILD, WILD);
        page.heading(WILD);
        page.note(WILD);
        page.tiles(&[Tile {
            name: WILD,
            value: WILD.to_owned(),
            unit: WILD,
            word: WILD.to_owned(),
        }]);
        page.facts([(WILD, WILD.to_owned())]);
        page.code(WILD);
        let small = Cell {
            small: WILD.to_owned(),
            ..Cell::text(WILD)
        };
        page.table(&[WILD], &[vec![small]]);
        page.figure(WILD, WILD, Some("<svg/>".to_owned()));
        let html = page.html();
        assert!(
            !html.contains("<script") && !html.contains('\u{7}'),
            "{html}"
        );
        let whole =
            "&lt;/title&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;\u{fffd}";
        assert_eq!(html.matches(whole).count(), 19);
    }

    #[test]
    fn the_page_names_nothing_outside_of_itself() {
        let html = Page::new("a", "b", "c").html();
        for words in [
            "http:", "https:", "src=", "href=", "url(", "@import", "<script",
        ] {
            assert!(!html.contains(words), "{words}");
        }
        assert!(html.contains("default-src 'none'"));
    }
}
