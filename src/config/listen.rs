//! Where metrics and health are served.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::settings::closest;

/// The longest path of a UNIX socket, in bytes (`sun_path`, which ends with a zero).
const PATH_LEN_MAX: usize = 107;
/// The port of the examples; nobody else of Prometheus' world has it by default.
const PORT_EXAMPLE: u16 = 9472;

/// What the operator asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Listen {
    /// A UNIX socket beside the control socket.
    #[default]
    Auto,
    /// Nowhere.
    Off,
    /// Here.
    At(Endpoint),
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP address of the network namespace.
    Tcp(SocketAddr),
    /// A UNIX socket of this path.
    Unix(PathBuf),
}

impl Listen {
    /// What this text stands for.
    ///
    /// # Errors
    /// What it may be, and what was probably meant.
    pub fn from_text(text: &str) -> Result<Self, String> {
        if let Ok(addr) = text.parse() {
            return Ok(Self::At(Endpoint::Tcp(addr)));
        }
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            path if path.starts_with('/') => Self::at_path(path),
            _ => Err(match meant(text) {
                Some(meant) => format!("{}; did you mean \"{meant}\"?", may_be()),
                None => may_be(),
            }),
        }
    }

    fn at_path(path: &str) -> Result<Self, String> {
        if path.contains('\0') || path.len() > PATH_LEN_MAX {
            return Err(format!(
                "the path of a socket has at most {PATH_LEN_MAX} bytes, and none of them is zero"
            ));
        }
        Ok(Self::At(Endpoint::Unix(path.into())))
    }

    /// Where that is for the daemon with this control socket.
    pub fn endpoint(self, control_socket: &Path) -> Option<Endpoint> {
        match self {
            Self::Auto => Some(Endpoint::Unix(beside(control_socket))),
            Self::Off => None,
            Self::At(endpoint) => Some(endpoint),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::At(endpoint) => write!(f, "{endpoint}"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => write!(f, "{addr}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// NAME.metrics.sock for NAME.sock. A name that ends otherwise stays whole: `flannel.1` and `flannel.2` are two daemons'.
fn beside(control_socket: &Path) -> PathBuf {
    if control_socket.extension().is_some_and(|end| end == "sock") {
        return control_socket.with_extension("metrics.sock");
    }
    let mut name = control_socket.as_os_str().to_owned();
    name.push(".metrics.sock");
    name.into()
}

/// What it may be, in words.
pub(super) fn may_be() -> String {
    format!(
        "use \"auto\" (a UNIX socket beside the control socket), \"off\", an address with a port as in \
         \"127.0.0.1:{PORT_EXAMPLE}\", or a path that starts with '/'"
    )
}

/// What it may be, as JSON Schema. Of what stands in the brackets of IPv6, and of bytes, it knows less than [`Listen::from_text`].
pub(super) fn schema() -> Value {
    let byte = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    let port = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})";
    let host = format!(r"({byte}(\.{byte}){{3}}|\[[0-9a-fA-F:.]+(%[0-9]+)?\])");
    json!({"anyOf": [
        {"enum": ["auto", "off"]},
        {"type": "string", "pattern": format!("^{host}:{port}$")},
        {"type": "string", "pattern": r"^/[^\x00]*$", "maxLength": PATH_LEN_MAX},
    ]})
}

/// What was probably meant by what is nothing of this.
fn meant(text: &str) -> Option<String> {
    let local = |port: &str| {
        let port: u16 = port.parse().ok()?;
        Some(format!("127.0.0.1:{port}"))
    };
    if let Ok(addr) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(addr, PORT_EXAMPLE).to_string());
    }
    let port = text.strip_prefix("localhost").unwrap_or(text);
    local(port.strip_prefix(':').unwrap_or(port))
        .or_else(|| closest(text, ["auto", "off"]).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_an_address_and_a_path_are_told_apart_and_written_as_they_are_read() {
        for text in [
            "auto",
            "off",
            "127.0.0.1:9472",
            "[::1]:9472",
            "0.0.0.0:80",
            "/run/x.sock",
        ] {
            assert_eq!(Listen::from_text(text).unwrap().to_string(), text);
        }
        assert_eq!(
            Listen::from_text("[::]:9472").unwrap(),
            Listen::At(Endpoint::Tcp(([0; 8], 9472).into()))
        );
        assert_eq!(
            Listen::from_text("/m").unwrap(),
            Listen::At(Endpoint::Unix("/m".into()))
        );
    }

    #[test]
    fn what_is_none_of_them_is_told_what_was_meant() {
        for (text, meant) in [
            ("9472", Some("127.0.0.1:9472")),
            (":9472", Some("127.0.0.1:9472")),
            ("localhost:80", Some("127.0.0.1:80")),
            ("10.0.0.1", Some("10.0.0.1:9472")),
            ("::1", Some("[::1]:9472")),
            ("of", Some("off")),
            ("AUTO", Some("auto")),
            ("relative.sock", None),
            ("127.0.0.1:99999", None),
            ("", None),
        ] {
            let words = Listen::from_text(text).unwrap_err();
            assert!(words.contains("127.0.0.1:9472") && words.contains("\"off\""));
            let expected = meant.map(|meant| format!("; did you mean \"{meant}\"?"));
            match expected {
                Some(expected) => assert!(words.ends_with(&expected), "{text}: {words}"),
                None => assert!(!words.contains("did you mean"), "{text}: {words}"),
            }
        }
        let long = format!("/{}", "x".repeat(PATH_LEN_MAX));
        for path in [long.as_str(), "/a\0b"] {
            let words = Listen::from_text(path).unwrap_err();
            assert!(words.contains("at most 107 bytes"), "{words}");
        }
        assert!(Listen::from_text(&long[..PATH_LEN_MAX]).is_ok());
    }

    #[test]
    fn the_usual_place_is_beside_the_control_socket() {
        let place = |listen: Listen, control: &str| listen.endpoint(Path::new(control));
        assert_eq!(
            place(Listen::Auto, "/run/vxgate/netns-7.sock"),
            Some(Endpoint::Unix("/run/vxgate/netns-7.metrics.sock".into()))
        );
        assert_eq!(
            place(Listen::Auto, "/run/mine"),
            Some(Endpoint::Unix("/run/mine.metrics.sock".into()))
        );
        for one in ["/run/flannel.1", "/run/flannel.2", "/run/x.sock.d"] {
            assert_eq!(
                place(Listen::Auto, one),
                Some(Endpoint::Unix(format!("{one}.metrics.sock").into()))
            );
        }
        assert_eq!(place(Listen::Off, "/run/mine"), None);
    }
}
