//! An answer to a request, and how it is sent.

use std::io::Write;

use serde::Serialize;
use serde_json::json;
use tiny_http::{Header, Request, Response};

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    content_type: &'static str,
    header: Option<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type, header: None, body: body.into() }
    }

    pub(crate) fn json(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(mut body) => {
                body.push(b'\n');
                Self::new(status, "application/json", body)
            }
            Err(error) => {
                tracing::error!(%error, "an answer could not be written as JSON");
                Self::internal()
            }
        }
    }

    pub(crate) fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body)
    }

    pub(crate) fn html(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, "text/html; charset=utf-8", body)
    }

    /// In the format that Prometheus scrapes.
    pub(crate) fn exposition(body: String) -> Self {
        Self::new(200, tenure::prometheus::CONTENT_TYPE, body)
    }

    pub(crate) fn no_content() -> Self {
        Self::new(204, "text/plain; charset=utf-8", "")
    }

    /// What went wrong, and what the client can do about it.
    pub(crate) fn error(status: u16, error: impl ToString, hint: impl ToString) -> Self {
        let body = json!({ "error": error.to_string(), "hint": hint.to_string() });
        Self::json(status, &body)
    }

    /// The server cannot do it now, but probably soon.
    pub(crate) fn overload(why: &str) -> Self {
        Self::error(503, why, "try again in a second").with("Retry-After", "1")
    }

    /// The cause goes to the log: it may hold what is none of the client's business.
    pub(crate) fn internal() -> Self {
        Self::error(500, "the server failed", "the server's log says why")
    }

    pub(crate) fn with(mut self, header: &'static str, value: impl Into<String>) -> Self {
        self.header = Some((header, value.into()));
        self
    }

    /// Sends it. A client who has gone away is no error.
    ///
    /// It is put together first and written at once: `tiny_http` would write a long answer in two
    /// pieces, and Nagle's algorithm holds back the second until the first is acknowledged, which
    /// may take 40 ms.
    pub(crate) fn send(self, request: Request) {
        let headers = [Some(("Content-Type", self.content_type.to_owned())), self.header];
        let headers = headers.into_iter().flatten();
        let headers =
            headers.filter_map(|(name, value)| Header::from_bytes(name, value.into_bytes()).ok());
        let length = self.body.len();
        let response = Response::new(
            self.status.into(),
            headers.collect(),
            self.body.as_slice(),
            Some(length),
            None,
        );
        let mut message = Vec::with_capacity(length + 256);
        let version = request.http_version().clone();
        let without_body = *request.method() == tiny_http::Method::Head;
        let printed =
            response.raw_print(&mut message, version, request.headers(), without_body, None);
        let mut writer = request.into_writer();
        let sent = printed.and_then(|()| writer.write_all(&message)).and_then(|()| writer.flush());
        if let Err(error) = sent {
            tracing::debug!(%error, "an answer could not be sent");
        }
    }
}
