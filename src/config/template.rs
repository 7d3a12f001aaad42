//! A configuration file with everything in it: each key with its default, under a comment that says what it may be.

use super::key::Key;
use crate::fault::paragraph;

/// Longest line of a comment, in columns.
const WIDTH: usize = 120;

/// The text of the file. Read back, it changes nothing.
pub fn template() -> String {
    let mut text = String::from(
        "# The configuration of `vxgate run --config FILE`. Every key may be left out: the values here are the defaults.\n\
         # A flag counts before its environment variable, both before the file. `vxgate config check FILE` judges it.\n",
    );
    for table in Key::tables() {
        text.push_str(&format!("\n[{table}]\n"));
        for (place, key) in Key::of(table).enumerate() {
            if place > 0 {
                text.push('\n');
            }
            text.push_str(&entry(key));
        }
    }
    text
}

fn entry(key: Key) -> String {
    let place = format!("Flag --{}, environment {}.", key.flag(), key.variable());
    let mut text = String::new();
    for words in [key.help(), place, key.applies().sentence().to_owned()] {
        text.push_str(&paragraph::filled("# ", &words, WIDTH));
    }
    match key.default() {
        Some(value) => text.push_str(&format!("{} = {value}\n", key.name())),
        None => text.push_str(&format!("# {} = \"/run/vxgate/vxgate.sock\"\n", key.name())),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Settings, parse};

    #[test]
    fn the_template_is_the_default() {
        let text = template();
        let read = parse(&text).unwrap();
        let defaults = Config::new(Settings::default(), Settings::default()).unwrap();
        assert_eq!(Config::new(Settings::default(), read).unwrap(), defaults);
    }

    #[test]
    fn the_template_has_every_key_and_no_long_line() {
        let text = template();
        for key in Key::ALL {
            assert!(text.contains(&format!("{} = ", key.name())), "{key:?}");
            assert!(text.contains(&format!("--{}, ", key.flag())), "{key:?}");
        }
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
        // With the comment's mark taken away, what is left out by default can be, too.
        let all = text.replace("# socket = ", "socket = ");
        let read = parse(&all).unwrap();
        assert_eq!(
            read.socket.as_deref(),
            Some("/run/vxgate/vxgate.sock".as_ref())
        );
    }
}
