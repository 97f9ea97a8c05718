//! The board as a page for people.

use std::fmt::Write;

use super::board::Overview;
use super::task::Task;

const HEAD: &str = "<!DOCTYPE html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta http-equiv=\"refresh\" content=\"2\">
<title>Task board</title>
<style>
body { font: 16px/1.5 sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em }
table { border-collapse: collapse; width: 100% }
th, td { border-bottom: 1px solid #ccc; padding: .2em .6em; text-align: left }
pre { background: #f4f4f4; padding: .6em; overflow: auto }
</style>
</head>
<body>
<h1>Task board</h1>
<p><a href=\"/tasks\">Tasks as JSON</a> | <a href=\"/status\">Status</a> |
<a href=\"/metrics\">Metrics</a> | <a href=\"/healthz\">Health</a></p>
";

const TABLE: &str = "<table>
<tr><th>Task</th><th>Title</th><th>State</th><th>Depends on</th><th>Worker</th><th>Result</th></tr>
";

const ROUTES: &str = "<h2>Interface</h2>
<pre>
POST /tasks                 {\"title\": \"..\", \"depends_on\": [1, 2]}
GET  /tasks                 ?state=open|claimed|done&amp;limit=100&amp;after=ID
GET  /tasks/ID
POST /claim                 {\"worker\": \"..\", \"lease_seconds\": 60}: the oldest task that is free
POST /tasks/ID/claim        {\"worker\": \"..\", \"lease_seconds\": 60}
POST /tasks/ID/heartbeat    {\"worker\": \"..\", \"lease_seconds\": 60}
POST /tasks/ID/complete     {\"worker\": \"..\", \"result\": \"..\"}
POST /reclaim
GET  /status                ?format=json|text
GET  /metrics
GET  /healthz
</pre>
</body>
</html>
";

pub(crate) fn render(board: &Overview, address: &str) -> String {
    let mut page = HEAD.to_owned();
    let counts = board.counts.iter().map(|(state, count)| format!("{count} {state}"));
    page += &format!("<p>{}</p>\n", counts.collect::<Vec<_>>().join(", "));
    if board.newest.is_empty() {
        page += &format!(
            "<p>There are no tasks yet. Create one:</p>\n\
             <pre>curl -d '{{\"title\": \"Water the plants\"}}' http://{address}/tasks</pre>\n"
        );
    } else {
        page += TABLE;
        for task in &board.newest {
            write_row(&mut page, task);
        }
        page += "</table>\n";
    }
    page + ROUTES
}

fn write_row(page: &mut String, task: &Task) {
    let depends_on = task.depends_on.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    let text = |text: &Option<String>| escape(text.as_deref().unwrap_or_default());
    let _ = writeln!(
        page,
        "<tr><td><a href=\"/tasks/{0}\">{0}</a></td><td>{1}</td><td>{2}</td><td>{3}</td><td>{4}</td><td>{5}</td></tr>",
        task.id,
        escape(&task.title),
        task.state,
        depends_on,
        text(&task.claimed_by),
        text(&task.result),
    );
}

/// What clients wrote must not become part of the page.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            other => escaped.push(other),
        }
    }
    escaped
}
