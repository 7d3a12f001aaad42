//! Holds the sources to the layers that `src/lib.rs` draws: a module imports only what lies below it, and `unsafe` stays
//! in the few files that need it.
//!
//! Each file under `src/` is cut into tokens (so that comments and strings say nothing) and every path that leaves its
//! module is judged: `crate::x`, `crate::{x, y}`, and `super::` as often as it takes to reach the root.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// One top-level module: where it lies and what it may import besides all that lies lower.
struct Module {
    name: &'static str,
    layer: u8,
    /// Modules of its own layer that it may import.
    siblings: &'static [&'static str],
    /// Modules that it may not import although they lie lower.
    never: &'static [&'static str],
}

const fn module(name: &'static str, layer: u8) -> Module {
    Module {
        name,
        layer,
        siblings: &[],
        never: &[],
    }
}

const MODULES: &[Module] = &[
    module("wire", 0),
    module("stats", 0),
    module("fault", 0),
    module("prefetch", 0),
    module("heap", 0),
    module("bounded", 0),
    module("table", 1),
    module("port", 1),
    module("netlink", 1),
    module("flows", 1),
    module("pipeline", 2),
    module("state", 2),
    module("worker", 3),
    module("control", 3),
    module("steer", 3),
    module("config", 4),
    Module {
        siblings: &["config"],
        ..module("gateway", 4)
    },
    // The other end of the wire judges what we built, so it shares none of it.
    Module {
        never: &[
            "wire", "stats", "fault", "prefetch", "heap", "bounded", "table", "port", "netlink",
            "flows", "pipeline", "state", "worker", "control", "steer",
        ],
        ..module("loadgen", 4)
    },
    module("show", 5),
    // Asks the daemon as people do.
    Module {
        siblings: &["show"],
        ..module("doctor", 5)
    },
    // A frame's way through the data path's own code, and nothing that a daemon has.
    module("trace", 5),
    Module {
        siblings: &["show", "doctor", "trace"],
        ..module("cli", 5)
    },
];

/// Where `unsafe` may stand: folders end in a slash. The load generator's files call xsk-rs, whose functions on frames and
/// rings are unsafe: it has no safe ones.
const UNSAFE: &[&str] = &[
    "heap.rs",
    "port/",
    "prefetch.rs",
    "steer/",
    "table/publish.rs",
    "loadgen/engine/afxdp.rs",
    "loadgen/engine/listener.rs",
    "loadgen/engine/socket.rs",
];

/// The root declares the modules; the binary parses and runs.
const ROOT: &str = "lib.rs";
const BINARY: &str = "main.rs";
const BINARY_IMPORTS: &[&str] = &["cli"];

#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{}: {}", self.file, self.line, self.what)
    }
}

#[test]
fn sources_keep_to_their_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources(&root);
    assert!(
        files.len() > MODULES.len(),
        "only {} files found in {}",
        files.len(),
        root.display()
    );
    let violations: Vec<_> = files
        .iter()
        .flat_map(|file| {
            let source = fs::read_to_string(file).expect("a readable source file");
            let name = file.strip_prefix(&root).expect("a file under src");
            judge(name.to_str().expect("a name in UTF-8"), &source)
        })
        .map(|violation| violation.to_string())
        .collect();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// All that is wrong with one file, whose name is relative to `src`.
fn judge(file: &str, source: &str) -> Vec<Violation> {
    let tokens = tokens(source);
    let mut violations = Vec::new();
    let mut report = |line, what| {
        violations.push(Violation {
            file: file.to_owned(),
            line,
            what,
        })
    };
    if !UNSAFE
        .iter()
        .any(|place| file == *place || (place.ends_with('/') && file.starts_with(place)))
    {
        for token in &tokens {
            if token.text == "unsafe" || token.text == "unsafe_code" {
                report(
                    token.line,
                    format!("`{}` outside {}", token.text, UNSAFE.join(", ")),
                );
            }
        }
    }
    let home = home(file);
    for import in imports(&home, &tokens) {
        if let Some(what) = objection(file, &home, &import.text) {
            report(import.line, what);
        }
    }
    violations
}

/// Why this file may not import that top-level module.
fn objection(file: &str, home: &[String], target: &str) -> Option<String> {
    if file == ROOT {
        return None;
    }
    if file == BINARY {
        return (!BINARY_IMPORTS.contains(&target)).then(|| format!("the binary imports {target}"));
    }
    let find = |name: &str| MODULES.iter().find(|module| module.name == name);
    let name = home.first().map_or("", String::as_str);
    let Some(from) = find(name) else {
        return Some(format!("module `{name}` has no layer in tests/layering.rs"));
    };
    if target == name {
        return None;
    }
    let Some(to) = find(target) else {
        return Some(format!(
            "{name} imports `{target}`, which is no module with a layer"
        ));
    };
    let allowed =
        to.layer < from.layer && !from.never.contains(&target) || from.siblings.contains(&target);
    (!allowed).then(|| {
        format!(
            "{name} (layer {}) imports {target} (layer {})",
            from.layer, to.layer
        )
    })
}

/// The module path of a file: `table/fdb.rs` is `table::fdb`, `table/mod.rs` is `table`, `lib.rs` is the root.
fn home(file: &str) -> Vec<String> {
    if file == ROOT || file == BINARY {
        return Vec::new();
    }
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

#[derive(Debug, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

/// Every path that starts at the root of the crate, as its first segment.
fn imports(home: &[String], tokens: &[Token]) -> Vec<Token> {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    let mut imports = Vec::new();
    let mut braces = 0;
    // Inline modules that are open, with the number of braces around them.
    let mut inline: Vec<usize> = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        match text(index) {
            "{" => {
                if index >= 2 && text(index - 2) == "mod" {
                    inline.push(braces);
                }
                braces += 1;
            }
            "}" => {
                braces = braces.saturating_sub(1);
                if inline.last() == Some(&braces) {
                    inline.pop();
                }
            }
            "crate" | "vxgate" if text(index + 1) == "::" => {
                first_segments(tokens, index + 2, &mut imports)
            }
            "super"
                if index == 0
                    || text(index - 1) != "::"
                    || text(index.wrapping_sub(2)) == "self" =>
            {
                let mut up = 1;
                while text(index + 1) == "::" && text(index + 2) == "super" {
                    up += 1;
                    index += 2;
                }
                if text(index + 1) == "::" && up >= home.len() + inline.len() {
                    first_segments(tokens, index + 2, &mut imports);
                }
            }
            _ => {}
        }
        index += 1;
    }
    imports
}

/// The segment at `index`, or the first segment of each path in the group that starts there.
fn first_segments(tokens: &[Token], index: usize, found: &mut Vec<Token>) {
    let mut push = |token: &Token| {
        found.push(Token {
            text: token.text.clone(),
            line: token.line,
        })
    };
    let Some(first) = tokens.get(index) else {
        return;
    };
    if first.text != "{" {
        return push(first);
    }
    let mut depth = 0;
    let mut starts = false;
    for token in &tokens[index..] {
        match token.text.as_str() {
            "{" => {
                depth += 1;
                starts = depth == 1;
            }
            "}" if depth == 1 => return,
            "}" => depth -= 1,
            "," => starts = depth == 1,
            _ if starts => {
                push(token);
                starts = false;
            }
            _ => {}
        }
    }
}

/// Identifiers and punctuation, `::` as one; without comments, strings, characters and lifetimes.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut index = 0;
    while index < chars.len() {
        let start = index;
        let char = at(index);
        if char == '/' && at(index + 1) == '/' {
            index = until(&chars, index, |index| at(index) == '\n');
        } else if char == '/' && at(index + 1) == '*' {
            index = after_block_comment(&chars, index);
        } else if char == '"' {
            index = after_string(&chars, index);
        } else if let Some(hashes) = raw_string(&chars, index) {
            let quote = until(&chars, index, |index| at(index) == '"');
            let closes =
                |index: usize| at(index) == '"' && (1..=hashes).all(|n| at(index + n) == '#');
            index = until(&chars, quote + 1, closes) + 1 + hashes;
        } else if char == '\'' && (at(index + 1) == '\\' || at(index + 2) == '\'') {
            index = until(
                &chars,
                index + if at(index + 1) == '\\' { 3 } else { 2 },
                |index| at(index) == '\'',
            ) + 1;
        } else if char.is_alphanumeric() || char == '_' || char == '\'' {
            index = until(&chars, index + 1, |index| {
                !at(index).is_alphanumeric() && at(index) != '_'
            });
            if char != '\'' {
                tokens.push(Token {
                    text: chars[start..index].iter().collect(),
                    line,
                });
            }
        } else {
            index += if char == ':' && at(index + 1) == ':' {
                2
            } else {
                1
            };
            if !char.is_whitespace() {
                tokens.push(Token {
                    text: chars[start..index].iter().collect(),
                    line,
                });
            }
        }
        index = index.min(chars.len());
        line += chars[start..index]
            .iter()
            .filter(|char| **char == '\n')
            .count();
    }
    tokens
}

fn until(chars: &[char], from: usize, stop: impl Fn(usize) -> bool) -> usize {
    (from..chars.len())
        .find(|index| stop(*index))
        .unwrap_or(chars.len())
}

fn after_block_comment(chars: &[char], mut index: usize) -> usize {
    let mut depth = 0;
    while index < chars.len() {
        let step = match chars.get(index..index + 2) {
            Some(['/', '*']) => {
                depth += 1;
                2
            }
            Some(['*', '/']) => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        index += step;
        if depth == 0 {
            break;
        }
    }
    index
}

fn after_string(chars: &[char], quote: usize) -> usize {
    let mut index = quote + 1;
    while index < chars.len() && chars[index] != '"' {
        index += if chars[index] == '\\' { 2 } else { 1 };
    }
    index + 1
}

/// The number of `#` of the raw string that starts here (`r"`, `r#"`, `br#"`, `cr"`), if one does.
fn raw_string(chars: &[char], index: usize) -> Option<usize> {
    let rest = &chars[index..];
    let rest = rest
        .strip_prefix(&['b'])
        .or(rest.strip_prefix(&['c']))
        .unwrap_or(rest);
    let rest = rest.strip_prefix(&['r'])?;
    let hashes = rest.iter().take_while(|char| **char == '#').count();
    (rest.get(hashes) == Some(&'"')).then_some(hashes)
}

/// The judge is judged: planted violations are found, and what only looks like one is not.
mod judge_itself {
    use super::*;

    fn lines(file: &str, source: &str) -> Vec<usize> {
        judge(file, source)
            .into_iter()
            .map(|violation| violation.line)
            .collect()
    }

    #[test]
    fn an_upward_import_is_named_with_file_and_line() {
        let found = judge(
            "pipeline/mod.rs",
            "//! Text.\n\nuse crate::control::Feed;\n",
        );
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].to_string(),
            "src/pipeline/mod.rs:3: pipeline (layer 2) imports control (layer 3)"
        );
    }

    #[test]
    fn downward_and_own_imports_pass() {
        assert_eq!(
            lines(
                "worker/turn.rs",
                "use crate::{wire::Vni, table, pipeline::decide};\nuse crate::worker::Plan;"
            ),
            []
        );
        assert_eq!(lines("gateway.rs", "use crate::config::Config;"), []);
        assert_eq!(
            lines("cli/run.rs", "use crate::show; use crate::gateway;"),
            []
        );
        assert_eq!(lines("lib.rs", "pub use crate::cli;"), []);
        assert_eq!(lines("main.rs", "fn main() { vxgate::cli::main() }"), []);
    }

    #[test]
    fn siblings_do_not_meet() {
        for (file, target) in [
            ("worker/mod.rs", "control"),
            ("control/mod.rs", "worker"),
            ("steer/mod.rs", "worker"),
            ("worker/mod.rs", "steer"),
            ("port/mod.rs", "table"),
            ("wire/mac.rs", "stats"),
            ("config.rs", "gateway"),
            ("show/mod.rs", "cli"),
        ] {
            assert_eq!(
                lines(file, &format!("\nuse crate::{target}::Thing;")),
                [2],
                "{file} imports {target}"
            );
        }
    }

    #[test]
    fn the_load_generator_stays_independent() {
        for target in MODULES
            .iter()
            .map(|module| module.name)
            .filter(|name| *name != "loadgen")
        {
            assert_eq!(
                lines("loadgen/mod.rs", &format!("use crate::{target}::X;")),
                [1]
            );
        }
        assert_eq!(
            lines(
                "loadgen/engine/sink.rs",
                "use crate::loadgen::headers::Shape;"
            ),
            []
        );
        assert_eq!(
            lines("cli/bench.rs", "use crate::loadgen::engine::Sink;"),
            []
        );
    }

    #[test]
    fn groups_are_judged_path_by_path() {
        let source = "use crate::{\n    wire::{Vni, control},\n    control::{Feed, x},\n    table,\n    worker,\n};";
        assert_eq!(lines("pipeline/encap.rs", source), [3, 5]);
    }

    #[test]
    fn paths_in_expressions_count_too() {
        assert_eq!(
            lines(
                "table/fdb.rs",
                "fn f() {\n    crate::pipeline::decide();\n}"
            ),
            [2]
        );
        assert_eq!(
            lines(
                "stats/mod.rs",
                "macro_rules! m { () => { $crate::wire::Vni } }"
            ),
            [1]
        );
    }

    #[test]
    fn super_is_followed_to_the_root() {
        assert_eq!(lines("table/fdb.rs", "use super::VtepId;"), []);
        assert_eq!(
            lines("table/fdb.rs", "use super::super::worker::Plan;"),
            [1]
        );
        assert_eq!(
            lines(
                "table/mod.rs",
                "use super::wire::Vni;\nuse super::worker::Plan;"
            ),
            [2]
        );
        assert_eq!(lines("table/mod.rs", "use self::super::worker::Plan;"), [1]);
        let nested = "mod tests {\n    use super::super::VtepId;\n    use super::super::super::worker;\n}\nuse super::Segment;";
        assert_eq!(lines("table/fdb.rs", nested), [3]);
        let closed = "mod tests {\n    fn f() {}\n}\nuse super::super::worker;";
        assert_eq!(lines("table/fdb.rs", closed), [4]);
    }

    #[test]
    fn globs_and_modules_without_a_layer_are_refused() {
        assert_eq!(lines("wire/mod.rs", "use crate::*;"), [1]);
        assert_eq!(lines("wire/mod.rs", "use crate::helpers::X;"), [1]);
        assert_eq!(lines("helpers.rs", "use crate::wire::Vni;"), [1]);
        assert_eq!(lines("main.rs", "use vxgate::gateway;"), [1]);
    }

    #[test]
    fn unsafe_is_kept_in_its_places() {
        let source = "#![allow(unsafe_code)]\nfn f() { unsafe { g() } }";
        assert_eq!(lines("pipeline/mod.rs", source), [1, 2]);
        assert_eq!(lines("table/fdb.rs", source), [1, 2]);
        assert_eq!(lines("table/publish.rs", source), []);
        assert_eq!(lines("loadgen/engine/afxdp.rs", source), []);
        assert_eq!(lines("loadgen/engine/live.rs", source), [1, 2]);
        assert_eq!(lines("port/umem.rs", source), []);
        assert_eq!(lines("portal/umem.rs", "fn f() { unsafe { g() } }"), [1]);
    }

    #[test]
    fn comments_strings_and_lifetimes_say_nothing() {
        let source = r##"
            // use crate::worker;
            /* unsafe /* nested */ crate::worker::x */
            /// [`crate::worker::Worker`]
            fn f<'a>(x: &'a str) -> char {
                let _ = ("crate::worker::x \" unsafe", r#"unsafe " crate::worker::x"#, b"unsafe", '"', '\'', '\\');
                'c'
            }
            use crate::control::X;
        "##;
        assert_eq!(lines("wire/mod.rs", source), [9]);
    }

    #[test]
    fn every_module_stands_once_in_the_table() {
        for (index, module) in MODULES.iter().enumerate() {
            assert!(
                MODULES[index + 1..]
                    .iter()
                    .all(|other| other.name != module.name)
            );
        }
    }
}
