//! Tasks and what clients say about them, parsed into values that need no further checks.

use std::fmt;

use serde::{Deserialize, Serialize};
use tenure::rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use tenure::rusqlite::{self, Row};

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Open,
    Claimed,
    Done,
}

impl State {
    pub(crate) const ALL: [Self; 3] = [Self::Open, Self::Claimed, Self::Done];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Claimed => "claimed",
            Self::Done => "done",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ToSql for State {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.name().into())
    }
}

impl FromSql for State {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Self::parse(value.as_str()?).ok_or(FromSqlError::InvalidType)
    }
}

/// A row of the board. Times are milliseconds since 1970.
#[derive(Debug, Serialize)]
pub(crate) struct Task {
    pub(crate) id: i64,
    pub(crate) title: String,
    pub(crate) state: State,
    pub(crate) depends_on: Vec<i64>,
    pub(crate) claimed_by: Option<String>,
    pub(crate) claim_expires_at: Option<i64>,
    pub(crate) created_at: i64,
    pub(crate) completed_at: Option<i64>,
    pub(crate) result: Option<String>,
}

impl Task {
    /// What [`Task::from_row`] wants to be selected.
    pub(crate) const COLUMNS: &str = "id, title, state, claimed_by, claim_expires_at, created_at, \
         completed_at, result, (SELECT json_group_array(depends_on_id) FROM dependencies \
         WHERE task_id = tasks.id) AS depends_on";

    pub(crate) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let depends_on: String = row.get("depends_on")?;
        Ok(Self {
            id: row.get("id")?,
            title: row.get("title")?,
            state: row.get("state")?,
            depends_on: serde_json::from_str(&depends_on).unwrap_or_default(),
            claimed_by: row.get("claimed_by")?,
            claim_expires_at: row.get("claim_expires_at")?,
            created_at: row.get("created_at")?,
            completed_at: row.get("completed_at")?,
            result: row.get("result")?,
        })
    }
}

/// The body of `POST /tasks`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTask {
    pub(crate) title: Text<200>,
    #[serde(default)]
    pub(crate) depends_on: Vec<i64>,
}

/// The body of both kinds of claim, and of a heartbeat.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claim {
    pub(crate) worker: Text<100>,
    #[serde(default)]
    pub(crate) lease_seconds: Lease,
}

/// The body of `POST /tasks/{id}/complete`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Completion {
    pub(crate) worker: Text<100>,
    #[serde(default)]
    pub(crate) result: Option<Text<2000>>,
}

/// The body of `POST /reclaim`: an empty object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// Text of 1 to `MAX` characters on one line.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> TryFrom<String> for Text<MAX> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.chars().count() {
            _ if text.trim().is_empty() => Err("the text is empty".to_owned()),
            _ if text.contains(char::is_control) => {
                Err("the text has control characters".to_owned())
            }
            length if length > MAX => {
                Err(format!("the text has {length} characters, {MAX} are allowed"))
            }
            _ => Ok(Self(text)),
        }
    }
}

/// For how long a claim holds without a heartbeat.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "i64")]
pub(crate) struct Lease {
    seconds: i64,
}

impl Lease {
    const LONGEST: i64 = 86_400;

    pub(crate) fn milliseconds(self) -> i64 {
        self.seconds * 1000
    }
}

impl Default for Lease {
    fn default() -> Self {
        Self { seconds: 60 }
    }
}

impl TryFrom<i64> for Lease {
    type Error = String;

    fn try_from(seconds: i64) -> Result<Self, String> {
        if (1..=Self::LONGEST).contains(&seconds) {
            Ok(Self { seconds })
        } else {
            Err(format!("lease_seconds is {seconds}, 1 to {} are allowed", Self::LONGEST))
        }
    }
}
