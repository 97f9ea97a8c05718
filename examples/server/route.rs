//! The paths that the server knows, as a closed set: they are also values of a label in the metrics,
//! where an unknown path must not make a new time series.

use std::fmt;

/// A path, without the id in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Board,
    Tasks,
    Task,
    ClaimTask,
    Heartbeat,
    Complete,
    ClaimNext,
    Reclaim,
    Metrics,
    Status,
    Healthz,
    Other,
}

/// The methods that mean something to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Other,
}

use Method::{Get, Post};

/// What each route takes, and which answers can be expected. HEAD goes wherever GET does.
pub(crate) const EXPECTED: &[(Route, Method, &[u16])] = &[
    (Route::Board, Get, &[200, 500, 503]),
    (Route::Tasks, Get, &[200, 400, 500, 503]),
    (Route::Tasks, Post, &[201, 400, 413, 500, 503]),
    (Route::Task, Get, &[200, 400, 404, 500, 503]),
    (Route::ClaimTask, Post, &[200, 400, 404, 409, 413, 500, 503]),
    (Route::Heartbeat, Post, &[200, 400, 404, 409, 413, 500, 503]),
    (Route::Complete, Post, &[200, 400, 404, 409, 413, 500, 503]),
    (Route::ClaimNext, Post, &[200, 204, 400, 413, 500, 503]),
    (Route::Reclaim, Post, &[200, 400, 413, 500, 503]),
    (Route::Metrics, Get, &[200]),
    (Route::Status, Get, &[200, 400]),
    (Route::Healthz, Get, &[200, 503]),
    (Route::Other, Get, &[404]),
    (Route::Other, Post, &[404]),
];

impl Route {
    /// The route of a path, and the text where an id should be.
    pub(crate) fn of(path: &str) -> (Self, &str) {
        match *path.split('/').collect::<Vec<_>>() {
            ["", ""] => (Self::Board, ""),
            ["", "tasks"] => (Self::Tasks, ""),
            ["", "tasks", id] => (Self::Task, id),
            ["", "tasks", id, "claim"] => (Self::ClaimTask, id),
            ["", "tasks", id, "heartbeat"] => (Self::Heartbeat, id),
            ["", "tasks", id, "complete"] => (Self::Complete, id),
            ["", "claim"] => (Self::ClaimNext, ""),
            ["", "reclaim"] => (Self::Reclaim, ""),
            ["", "metrics"] => (Self::Metrics, ""),
            ["", "status"] => (Self::Status, ""),
            ["", "healthz"] => (Self::Healthz, ""),
            _ => (Self::Other, ""),
        }
    }

    /// The value of the label `route`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Board => "/",
            Self::Tasks => "/tasks",
            Self::Task => "/tasks/{id}",
            Self::ClaimTask => "/tasks/{id}/claim",
            Self::Heartbeat => "/tasks/{id}/heartbeat",
            Self::Complete => "/tasks/{id}/complete",
            Self::ClaimNext => "/claim",
            Self::Reclaim => "/reclaim",
            Self::Metrics => "/metrics",
            Self::Status => "/status",
            Self::Healthz => "/healthz",
            Self::Other => "other",
        }
    }

    pub(crate) fn takes(self, method: Method) -> bool {
        let method = if method == Method::Head { Get } else { method };
        EXPECTED.iter().any(|(route, expected, _)| *route == self && *expected == method)
    }

    /// The value of the header `Allow`.
    pub(crate) fn allowed(self) -> String {
        let methods = [Get, Method::Head, Post].into_iter().filter(|method| self.takes(*method));
        methods.map(Method::label).collect::<Vec<_>>().join(", ")
    }
}

impl Method {
    pub(crate) fn of(method: &tiny_http::Method) -> Self {
        match method {
            tiny_http::Method::Get => Get,
            tiny_http::Method::Head => Self::Head,
            tiny_http::Method::Post => Post,
            _ => Self::Other,
        }
    }

    /// The value of the label `method`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Get => "GET",
            Self::Head => "HEAD",
            Post => "POST",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
