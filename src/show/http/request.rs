//! What a client asks for: the head of a request, as it comes in.
//!
//! ```text
//!   GET /metrics?x=1 HTTP/1.1 CRLF      the only line that matters
//!   Host: ... CRLF                      passed over, as all fields are: there is one answer for everybody
//!   CRLF                                the end; what follows is not read as anything
//! ```

/// Longest head that is taken, in bytes.
pub const HEAD_LEN_MAX: usize = 8192;

/// What may be done with a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Give it.
    Get,
    /// Give all but the page itself.
    Head,
}

/// A request that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub method: Method,
    /// With which page: starts with a slash, has no query, and is visible ASCII.
    pub path: String,
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is not HTTP.
    Malformed,
    /// Neither `GET` nor `HEAD`.
    Method,
    /// The head is longer than [`HEAD_LEN_MAX`].
    TooLong,
    /// Another HTTP than 1.
    Version,
}

/// The part of a head that has come in so far. Of the whole only the first line is kept.
#[derive(Debug, Default)]
pub struct Head {
    /// The request line, without its end.
    line: Vec<u8>,
    line_is_whole: bool,
    /// Bytes of the line that is coming in, its end not counted.
    column: usize,
    /// Bytes in all.
    taken: usize,
}

impl Head {
    /// Takes what has come in. None as long as the head is not whole; to be asked no more after that. How the bytes are
    /// cut makes no difference.
    pub fn take(&mut self, bytes: &[u8]) -> Option<Result<Request, Refusal>> {
        for byte in bytes {
            if self.taken == HEAD_LEN_MAX {
                return Some(Err(Refusal::TooLong));
            }
            self.taken += 1;
            match byte {
                // RFC 9112 §2.2: a line may end in a bare LF, and empty lines may precede the first.
                b'\n' if self.column > 0 => {
                    self.line_is_whole = true;
                    self.column = 0;
                }
                b'\n' if self.line_is_whole => return Some(request(&self.line)),
                b'\n' | b'\r' => {}
                byte => {
                    self.column += 1;
                    if !self.line_is_whole {
                        self.line.push(*byte);
                    }
                }
            }
        }
        None
    }
}

/// Reads a request line (RFC 9112 §3).
fn request(line: &[u8]) -> Result<Request, Refusal> {
    let line = str::from_utf8(line).map_err(|_| Refusal::Malformed)?;
    let mut parts = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::Malformed);
    };
    let is_token = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphabetic());
    if !is_token(method) || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Refusal::Malformed);
    }
    match version.strip_prefix("HTTP/") {
        None => return Err(Refusal::Malformed),
        Some("1.0" | "1.1") => {}
        Some(_) => return Err(Refusal::Version),
    }
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        _ => return Err(Refusal::Method),
    };
    let path = path(target).ok_or(Refusal::Malformed)?;
    Ok(Request { method, path })
}

/// The path of a target, which a client may give with the server's name in front (RFC 9112 §3.2.2).
fn path(target: &str) -> Option<String> {
    let rest = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => target,
    };
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    path.starts_with('/').then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Result<Request, Refusal>> {
        let whole = Head::default().take(text.as_bytes());
        let mut head = Head::default();
        let by_byte = text
            .bytes()
            .find_map(|byte| head.take(std::slice::from_ref(&byte)));
        assert_eq!(whole, by_byte, "{text:?}");
        whole
    }

    #[test]
    fn a_whole_head_is_a_request_and_half_of_it_is_none_yet() {
        for (text, method, path) in [
            (
                "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
                Method::Get,
                "/metrics",
            ),
            ("GET /metrics HTTP/1.0\n\n", Method::Get, "/metrics"),
            ("\r\n\r\nHEAD / HTTP/1.1\r\n\r\n", Method::Head, "/"),
            (
                "GET /healthz?verbose HTTP/1.1\r\n\r\n",
                Method::Get,
                "/healthz",
            ),
            (
                "GET http://a:1/readyz HTTP/1.1\r\n\r\n",
                Method::Get,
                "/readyz",
            ),
            ("GET http://a:1 HTTP/1.1\r\n\r\n", Method::Get, "/"),
            (
                "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
                Method::Get,
                "/a",
            ),
        ] {
            let path = path.to_owned();
            assert_eq!(read(text), Some(Ok(Request { method, path })), "{text:?}");
        }
        for half in [
            "",
            "\r\n",
            "GET / HT",
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n",
        ] {
            assert_eq!(read(half), None, "{half:?}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (text, refusal) in [
            ("GET /metrics\r\n\r\n", Refusal::Malformed),
            ("GET  /metrics HTTP/1.1\r\n\r\n", Refusal::Malformed),
            ("GET /a b HTTP/1.1\r\n\r\n", Refusal::Malformed),
            ("GET metrics HTTP/1.1\r\n\r\n", Refusal::Malformed),
            ("GET /\u{e9} HTTP/1.1\r\n\r\n", Refusal::Malformed),
            ("GET /\0 HTTP/1.1\r\n\r\n", Refusal::Malformed),
            ("\u{16}\u{3}\u{1}\u{2}\n\n", Refusal::Malformed),
            ("POST /metrics HTTP/1.1\r\n\r\n", Refusal::Method),
            ("get /metrics HTTP/1.1\r\n\r\n", Refusal::Method),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal::Version),
        ] {
            assert_eq!(read(text), Some(Err(refusal)), "{text:?}");
        }
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(HEAD_LEN_MAX));
        assert_eq!(read(&long), Some(Err(Refusal::TooLong)));
        let fields = "a: b\r\n".repeat(HEAD_LEN_MAX);
        let many = format!("GET / HTTP/1.1\r\n{fields}");
        assert_eq!(read(&many), Some(Err(Refusal::TooLong)));
        // As long as may be, and one byte more.
        let fill = HEAD_LEN_MAX - "GET / HTTP/1.1\n\n".len();
        let head = |fill| format!("GET /{} HTTP/1.1\n\n", "x".repeat(fill));
        assert!(matches!(read(&head(fill)), Some(Ok(_))));
        assert_eq!(read(&head(fill + 1)), Some(Err(Refusal::TooLong)));
    }
}
