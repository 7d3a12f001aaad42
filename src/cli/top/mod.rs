//! `vxgate top`: the terminal, the keys, and a thread that asks the daemon.

mod keys;

use std::env;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anstream::ColorChoice;
use clap::Args;
use crossbeam::channel::{Receiver, Sender, bounded};
use ratatui::DefaultTerminal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use keys::{Heard, Keyboard};

use super::duration::seconds;
use super::output::OutputError;
use super::{SocketArgument, exit, fail, print, print_json};
use crate::fault::{Explained, Fault};
use crate::show::{PerfError, Rates, SocketError, Status, Style, Top, ask};

/// How long to wait for a key before looking whether there is anything else.
const KEY: Duration = Duration::from_millis(50);
/// How often the screen is drawn without a reason: its size may be another.
const DRAW: Duration = Duration::from_millis(500);

/// Arguments of `vxgate top`.
#[derive(Debug, Args)]
pub(super) struct ShowTop {
    /// The time between two looks: seconds, or with a unit (500ms, 1m).
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = seconds)]
    interval: Duration,
    /// Look twice, print what happened in between as plain text, and end: needs no terminal.
    #[arg(long)]
    once: bool,
    /// Print one JSON document (schema vxgate/1) instead of text.
    #[arg(long, requires = "once")]
    json: bool,
    /// Write nothing but ASCII [default: unless the locale is UTF-8].
    #[arg(long)]
    ascii: bool,
    #[command(flatten)]
    socket: SocketArgument,
}

/// There is no screen to draw on.
#[derive(Debug, thiserror::Error)]
enum ScreenError {
    #[error("standard output is no terminal, and vxgate top draws on one")]
    None,
    #[error("the terminal cannot be used: {0}")]
    Io(#[from] io::Error),
}

impl Explained for ScreenError {
    fn fault(&self) -> Fault {
        Fault::ScreenNone
    }
}

impl ShowTop {
    pub(super) fn execute(self) -> ExitCode {
        let path = match self.socket.path() {
            Ok(path) => path,
            Err(code) => return code,
        };
        if self.once {
            return self.print_once(&path).unwrap_or_else(|code| code);
        }
        match self.show(path) {
            Ok(code) => code,
            Err(error) => fail(&error),
        }
    }

    fn print_once(&self, path: &Path) -> Result<ExitCode, ExitCode> {
        let look = || ask(path).map_err(|error| fail(&error));
        let before = look()?;
        let begin = Instant::now();
        thread::sleep(self.interval);
        let after = look()?;
        let rates = Rates::between(&before, &after, begin.elapsed().as_secs_f64());
        let rates = rates.ok_or_else(|| fail(&PerfError::Replaced))?;
        if self.json {
            let printed: Result<(), OutputError> = print_json(&rates);
            printed.map_err(|error| fail(&error))?;
        } else {
            print(&rates.to_string());
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Draws until a key or a signal ends it.
    fn show(&self, path: PathBuf) -> Result<ExitCode, ScreenError> {
        if !io::stdout().is_terminal() {
            return Err(ScreenError::None);
        }
        let ended = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            // The second one ends it where it stands: a terminal may have been stopped in the midst of a screen.
            let code = exit::INTERRUPTED.into();
            signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(&ended))?;
            signal_hook::flag::register(signal, Arc::clone(&ended))?;
        }
        let style = Style {
            colour: anstream::AutoStream::choice(&io::stdout()) != ColorChoice::Never,
            ascii: self.ascii || !is_utf8(|name| env::var(name).ok()),
        };
        let looks = watch(path, self.interval)?;
        let mut watched = Watched {
            top: Top::new(style, self.interval.as_secs_f64()),
            before: None,
        };
        let keyboard = Keyboard::open()?;
        // A panic restores the terminal, too, before it says anything.
        let mut terminal = ratatui::try_init()?;
        let outcome = watched.run(&mut terminal, &keyboard, &looks, &ended);
        // Of a terminal that has gone there is nothing to restore, and nobody to tell.
        let _ = ratatui::try_restore();
        Ok(outcome?)
    }
}

/// What has been seen, and the screen of it.
struct Watched {
    top: Top,
    before: Option<Look>,
}

/// A look at the daemon, and when it was.
type Look = (Status, Instant);

impl Watched {
    fn run(
        &mut self,
        terminal: &mut DefaultTerminal,
        keyboard: &Keyboard,
        looks: &Receiver<Result<Look, SocketError>>,
        ended: &AtomicBool,
    ) -> io::Result<ExitCode> {
        let mut draw_at = Instant::now();
        while !ended.load(Ordering::Relaxed) {
            if Instant::now() >= draw_at {
                terminal.draw(|frame| self.top.draw(frame))?;
                draw_at = Instant::now() + DRAW;
            }
            match keyboard.hear(KEY) {
                Heard::Nothing => {}
                Heard::Keys(keys) => {
                    if !keys.into_iter().all(|key| self.top.press(key)) {
                        return Ok(ExitCode::SUCCESS);
                    }
                    draw_at = Instant::now();
                }
                Heard::Gone => break,
            }
            for look in looks.try_iter() {
                self.take(look);
                draw_at = Instant::now();
            }
        }
        Ok(ExitCode::from(exit::INTERRUPTED))
    }

    fn take(&mut self, look: Result<Look, SocketError>) {
        let (status, at) = match look {
            Ok(look) => look,
            Err(error) => {
                return self.top.miss(format!("{error}; waiting for it"));
            }
        };
        let before = self.before.take();
        let rates = before.and_then(|(before, then)| {
            let seconds = at.saturating_duration_since(then).as_secs_f64();
            Rates::between(&before, &status, seconds)
        });
        self.before = Some((status, at));
        match rates {
            Some(rates) => self.top.see(rates),
            None => self.top.begin(),
        }
    }
}

/// Asks again and again, on a thread of its own: a daemon that hangs must not hold up the keys.
fn watch(path: PathBuf, interval: Duration) -> io::Result<Receiver<Result<Look, SocketError>>> {
    let (tell, told) = bounded(1);
    let thread = thread::Builder::new().name("vxgate-top".into());
    thread.spawn(move || go_on_asking(&path, interval, &tell))?;
    Ok(told)
}

fn go_on_asking(path: &Path, interval: Duration, tell: &Sender<Result<Look, SocketError>>) {
    loop {
        let begin = Instant::now();
        let look = ask(path).map(|status| (status, Instant::now()));
        // Nobody listens any more only when the screen is gone.
        if tell.send(look).is_err() {
            return;
        }
        // Its parts are not of one moment when the daemon had to wait for the kernel. Two such looks right behind each other would
        // be compared by the little time between their ends.
        let rest = interval.saturating_sub(begin.elapsed());
        thread::sleep(rest.max(interval / 2));
    }
}

/// Whether the locale's characters are those of UTF-8, as setlocale(3) finds it in the environment.
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let mut set = names.into_iter().filter_map(variable);
    let locale = set.find(|value| !value.is_empty());
    locale.is_some_and(|locale| {
        let locale = locale.to_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_of_the_locale_counts() {
        let with = |set: &'static [(&str, &str)]| {
            is_utf8(move |name| {
                let found = set.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(with(&[("LANG", "de_DE.UTF-8")]));
        assert!(with(&[
            ("LC_ALL", ""),
            ("LC_CTYPE", "C.utf8"),
            ("LANG", "C")
        ]));
        assert!(!with(&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]));
        assert!(!with(&[]));
    }
}
