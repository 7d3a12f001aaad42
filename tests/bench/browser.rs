//! A browser without a screen, in a network namespace without a network.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use tempfile::TempDir;

use crate::support::netns::Netns;

/// What the reader prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Dark,
    Light,
}

pub struct Browser {
    nowhere: Netns,
    folder: TempDir,
}

/// What a page looked like.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Look {
    pub prefers_dark: bool,
    /// Of the page, as the browser says it: `rgb(255, 255, 255)`.
    pub background: String,
    pub title: String,
    pub heading: String,
    /// Labels of the plots.
    pub plots: Vec<String>,
    pub scripts: usize,
    pub images: usize,
    /// What it loaded, besides itself.
    pub resources: usize,
    /// The whole text, as it is read.
    pub text: String,
    /// Text whose contrast with what is behind it is below 4.5 (WCAG 2, 1.4.3).
    pub pale_text: Vec<String>,
    /// Parts of plots with a contrast below 3 (1.4.11): not what steps back on purpose.
    pub pale_shapes: Vec<String>,
    /// Text of plots that leaves its drawing.
    pub outside: Vec<String>,
    /// How much wider than the window the page is, in pixels.
    pub too_wide: i64,
}

/// Looks, and leaves what it saw at the end of the page.
const PROBE: &str = r##"<script>
const channel = c => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4 };
const parts = colour => (colour.match(/[\d.]+/g) || []).map(Number);
const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const contrast = (one, other) => {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
const behind = element => {
  for (; element; element = element.parentElement) {
    const found = parts(getComputedStyle(element).backgroundColor);
    if (found.length === 3 || found[3] > 0) return found;
  }
  return [255, 255, 255];
};
const all = selector => [...document.querySelectorAll(selector)];
const says = element => [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
const ink = element => getComputedStyle(element)[element instanceof SVGElement ? "fill" : "color"];
const shade = element => {
  const style = getComputedStyle(element);
  return style.fill === "none" ? style.stroke : style.fill;
};
const stepsBack = element => /--(grid|card)/.test(element.getAttribute("fill") + element.getAttribute("stroke"));
const look = {
  prefersDark: matchMedia("(prefers-color-scheme: dark)").matches,
  background: getComputedStyle(document.body).backgroundColor,
  title: document.title,
  heading: document.querySelector("h1").textContent,
  plots: all("figure svg").map(svg => svg.getAttribute("aria-label")),
  scripts: document.scripts.length - 1,
  images: document.images.length,
  resources: performance.getEntriesByType("resource").length,
  text: document.querySelector("main").textContent,
  paleText: all("main *, footer").filter(e => says(e) && contrast(parts(ink(e)), behind(e)) < 4.5)
    .map(e => e.textContent.trim() + " " + ink(e)),
  paleShapes: all("svg rect, svg circle, svg polyline").filter(e => !stepsBack(e))
    .filter(e => contrast(parts(shade(e)), behind(e)) < 3).map(e => e.outerHTML + shade(e)),
  outside: all("svg text").filter(e => {
    const box = e.getBBox(), view = e.ownerSVGElement.viewBox.baseVal;
    return box.x < 0 || box.y < 0 || box.x + box.width > view.width || box.y + box.height > view.height;
  }).map(e => e.textContent.trim()),
  tooWide: document.documentElement.scrollWidth - innerWidth,
};
document.body.innerHTML = "";
document.body.append("LOOK" + encodeURIComponent(JSON.stringify(look)) + "KOOL");
</script>"##;

impl Browser {
    pub fn new(name: &str) -> Self {
        Self {
            nowhere: Netns::create(&format!("vx{}-bench-{name}", std::process::id())),
            folder: TempDir::new().unwrap(),
        }
    }

    /// Opens a page as it is, and returns what the browser complains of.
    pub fn complaints(&self, page: &Path, scheme: Scheme) -> Vec<String> {
        let (_, log) = self.open(page, scheme, 1200);
        let complaints = log.lines().filter(|line| line.contains("CONSOLE"));
        complaints.map(str::to_owned).collect()
    }

    /// Looks at a page in a window of this width. The page forbids scripts, so this opens a copy that does not.
    pub fn look(&self, page: &Path, scheme: Scheme, width: u32) -> Look {
        let html = fs::read_to_string(page).unwrap();
        let open = html.replace("default-src 'none'; style-src 'unsafe-inline'", "");
        assert_ne!(open, html, "the page forbids the browser to load anything");
        let copy = self.folder.path().join("copy.html");
        fs::write(&copy, open.replace("</body>", &format!("{PROBE}</body>"))).unwrap();
        let (dom, log) = self.open(&copy, scheme, width);
        let text = dom
            .split_once("LOOK")
            .and_then(|(_, rest)| rest.split_once("KOOL"))
            .unwrap_or_else(|| panic!("the probe did not run: {log}"))
            .0;
        serde_json::from_str(&decode(text)).unwrap()
    }

    /// The document after it was loaded, and the browser's log.
    fn open(&self, page: &Path, scheme: Scheme, width: u32) -> (String, String) {
        let profile = TempDir::new_in(&self.folder).unwrap();
        let preferred = match scheme {
            Scheme::Dark => 0,
            Scheme::Light => 1,
        };
        let output = self
            .nowhere
            .command("timeout")
            .args([
                "60",
                "chromium",
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
            ])
            .args([
                "--no-first-run",
                "--disable-background-networking",
                "--enable-logging=stderr",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("--blink-settings=preferredColorScheme={preferred}"))
            .arg(format!("--window-size={width},1000"))
            .arg("--dump-dom")
            .arg(format!("file://{}", page.display()))
            .env("HOME", profile.path())
            .output()
            .expect("iproute2 is installed");
        let [dom, log] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(output.status.success(), "is chromium installed? {log}");
        (dom, log)
    }
}

/// What `encodeURIComponent` wrote.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        (bytes, rest) = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digits = [*high, *low];
                let byte = u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap();
                bytes.push(byte);
                (bytes, tail)
            }
            _ => {
                bytes.push(*first);
                (bytes, tail)
            }
        };
    }
    String::from_utf8(bytes).unwrap()
}
