//! Manual pages and completions, made from the same definitions as the command line itself.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::output::OutputError;
use super::{fail, print};
use crate::config::Key;

/// The section of the commands: system administration.
const SECTION: &str = "8";

/// Arguments of `vxgate man`.
#[derive(Debug, Args)]
pub(super) struct Manual {
    /// Write all pages into this folder, which is made: vxgate.8, one a subcommand, and vxgate.toml.5
    /// [default: vxgate.8 to standard output].
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Arguments of `vxgate completions`.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// For which shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Manual {
    pub(super) fn execute(&self, command: Command) -> ExitCode {
        match self.write(command) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        }
    }

    fn write(&self, command: Command) -> Result<(), OutputError> {
        let pages = pages(command)?;
        let Some(folder) = &self.folder else {
            if let Some(page) = pages.first() {
                print(&page.text);
            }
            return Ok(());
        };
        fs::create_dir_all(folder).map_err(OutputError::of(folder.display().to_string()))?;
        for page in pages {
            let path = folder.join(page.file);
            fs::write(&path, page.text).map_err(OutputError::of(path.display().to_string()))?;
        }
        Ok(())
    }
}

impl Completions {
    pub(super) fn execute(&self, mut command: Command) -> ExitCode {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "vxgate", &mut script);
        print(&String::from_utf8_lossy(&script));
        ExitCode::SUCCESS
    }
}

/// A page and the name of its file.
struct Page {
    file: String,
    text: String,
}

/// All pages, that of the program first.
fn pages(command: Command) -> Result<Vec<Page>, OutputError> {
    let mut root = command.disable_help_subcommand(true);
    // Gives subcommands their full names.
    root.build();
    let mut pages = Vec::new();
    collect(&root, &mut pages)?;
    pages.push(Page {
        file: "vxgate.toml.5".to_owned(),
        text: file_page(),
    });
    Ok(pages)
}

fn collect(command: &Command, pages: &mut Vec<Page>) -> Result<(), OutputError> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let file = format!("{name}.{SECTION}");
    let mut text = Vec::new();
    Man::new(command.clone())
        .title(name)
        .section(SECTION)
        .source(format!("vxgate {}", env!("CARGO_PKG_VERSION")))
        .manual("vxgate")
        .render(&mut text)
        .map_err(OutputError::of(file.clone()))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    pages.push(Page { file, text });
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    shown.into_iter().try_for_each(|sub| collect(sub, pages))
}

/// vxgate.toml(5).
fn file_page() -> String {
    let mut roff = Roff::new();
    let source = format!("vxgate {}", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["vxgate.toml", "5", "", &source, "vxgate"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("vxgate.toml - the configuration of vxgate run")]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([
        roman("A TOML file, which "),
        bold("vxgate run --config FILE"),
        roman(
            " reads when it starts, and again when it is told to (",
        ),
        bold("vxgate reload"),
        roman(
            ", or SIGHUP). Every key may be left out. A flag counts before its environment variable, both before \
             the file. What is not known is refused, and so is a file that everybody may write to. ",
        ),
        bold("vxgate config template"),
        roman(" prints a file with every key and its default, "),
        bold("vxgate config check FILE"),
        roman(" judges one."),
    ]);
    for table in Key::tables() {
        roff.control("SH", [format!("[{table}]").as_str()]);
        for key in Key::of(table) {
            roff.control("TP", []);
            let mut head = vec![bold(key.name())];
            if let Some(default) = key.default() {
                head.extend([roman(" = "), italic(default.to_string())]);
            }
            roff.text(head);
            roff.text([
                roman(key.help()),
                roman(" Flag "),
                bold(format!("--{}", key.flag())),
                roman(", environment "),
                bold(key.variable()),
                roman(". "),
                roman(key.applies().sentence().replace('`', "")),
            ]);
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([
        bold("vxgate"),
        roman("(8), "),
        bold("vxgate-run"),
        roman("(8), "),
        bold("vxgate-config"),
        roman("(8)"),
    ]);
    roff.to_roff()
}
