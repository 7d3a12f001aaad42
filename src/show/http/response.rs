//! What a client is answered.

use std::sync::Arc;

use super::Refusal;

/// An answer.
#[derive(Debug, Clone)]
pub(in crate::show) struct Response {
    /// The status line's number and words.
    status: &'static str,
    /// Another field of the head, with its line end.
    field: &'static str,
    content_type: &'static str,
    /// Shared, since many may ask for the same page.
    pub body: Arc<str>,
}

impl Response {
    /// A page in plain text.
    pub fn text(status: &'static str, body: impl Into<Arc<str>>) -> Self {
        Self {
            status,
            field: "",
            content_type: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }

    /// A page of another kind.
    pub fn page(content_type: &'static str, body: Arc<str>) -> Self {
        Self {
            content_type,
            ..Self::text("200 OK", body)
        }
    }

    /// The head, which says how long the body is, whether it is sent or not.
    pub fn head(&self) -> String {
        let Self {
            status,
            field,
            content_type,
            body,
        } = self;
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
             Cache-Control: no-store\r\n{field}Connection: close\r\n\r\n"
        )
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed => Self::text("400 Bad Request", "this is no HTTP/1 request\n"),
            Refusal::Method => Self {
                field: "Allow: GET, HEAD\r\n",
                ..Self::text("405 Method Not Allowed", "use GET or HEAD\n")
            },
            Refusal::TooLong => Self::text(
                "431 Request Header Fields Too Large",
                "the head of the request is too long\n",
            ),
            Refusal::Version => Self::text("505 HTTP Version Not Supported", "use HTTP/1.1\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_tells_the_length_of_the_body() {
        let response = Response::text("200 OK", "ok\n");
        assert_eq!(
            response.head(),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        );
        let refused = Response::from(Refusal::Method).head();
        assert!(
            refused.contains("405") && refused.contains("Allow: GET, HEAD\r\n"),
            "{refused}"
        );
    }
}
