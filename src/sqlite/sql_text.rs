//! What a piece of SQL may leave behind on its connection, judged by its words.
//!
//! Queries and changes of rows leave nothing that check-in does not see for free, and they are nearly
//! everything that is run. The rest (PRAGMA, ATTACH, CREATE TEMP ..) makes check-in look closely. To
//! tell one from the other takes a look at the first word, some nanoseconds. An authorizer was the
//! alternative: SQLite would call it for what each statement does. It lost because there is only one
//! for a connection, and `on_connect` may have set it; because it costs 70 ns for each statement
//! prepared; and because a cached statement does not pass it again.
//!
//! The judgement errs on the side of a closer look.

/// What a statement may do to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing that outlives the statement, other than an open transaction.
    None,
    /// It begins or ends a transaction.
    Transaction,
    /// It may change what the next holder would find.
    Session,
    /// It would change the whole process.
    Process,
}

/// PRAGMAs that take an argument and change nothing about the connection.
const QUERIES: &[&str] = &[
    "application_id",
    "foreign_key_check",
    "foreign_key_list",
    "incremental_vacuum",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "optimize",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
    "wal_checkpoint",
];

/// PRAGMAs that change the whole process.
const PROCESS_WIDE: &[&str] =
    &["data_store_directory", "hard_heap_limit", "soft_heap_limit", "temp_store_directory"];

fn is(word: &str, other: &str) -> bool {
    word.eq_ignore_ascii_case(other)
}

fn is_one_of(word: &str, others: &[&str]) -> bool {
    others.iter().any(|other| is(word, other))
}

/// The words and signs of SQL, without comments. What stands in quotes is one sign, its first.
struct Words<'t>(&'t str);

impl<'t> Iterator for Words<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        loop {
            self.0 = self.0.trim_ascii_start();
            let after = |at: Option<usize>, length| at.map_or("", |at| &self.0[at + length..]);
            if self.0.starts_with("--") {
                self.0 = after(self.0.find('\n'), 1);
            } else if self.0.starts_with("/*") {
                self.0 = after(self.0[2..].find("*/"), 4);
            } else {
                break;
            }
        }
        let first = self.0.chars().next()?;
        if let Some(close) = closing_quote(first) {
            let (quote, text) = self.0.split_at(1);
            self.0 = text.find(close).map_or("", |at| &text[at + 1..]);
            return Some(quote);
        }
        let belongs = |c: char| c.is_alphanumeric() || c == '_';
        let length = match self.0.find(|c| !belongs(c)) {
            Some(0) => first.len_utf8(),
            Some(length) => length,
            None => self.0.len(),
        };
        let (word, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(word)
    }
}

/// A doubled quote inside quotes reads as two texts side by side, which is no different here.
fn closing_quote(opening: char) -> Option<char> {
    match opening {
        '\'' | '"' | '`' => Some(opening),
        '[' => Some(']'),
        _ => None,
    }
}

/// The effect of the first statement of `sql`.
pub(super) fn effect(sql: &str) -> Effect {
    let mut words = Words(sql).skip_while(|word| *word == ";");
    let Some(first) = words.next() else {
        return Effect::None;
    };
    const ROWS: &[&str] = &["select", "insert", "update", "delete", "replace", "with", "values"];
    if is_one_of(first, ROWS) || is_one_of(first, &["savepoint", "release"]) {
        return Effect::None;
    }
    if is_one_of(first, &["begin", "commit", "end"]) {
        return Effect::Transaction;
    }
    if is(first, "rollback") {
        let goes_on = words.find(|word| !is(word, "transaction"));
        let to_savepoint = goes_on.is_some_and(|word| is(word, "to"));
        return if to_savepoint { Effect::None } else { Effect::Transaction };
    }
    if is(first, "pragma") { pragma_effect(words) } else { Effect::Session }
}

/// The effect of a PRAGMA, given what follows the word.
fn pragma_effect<'t>(mut words: impl Iterator<Item = &'t str>) -> Effect {
    let mut name = words.next().unwrap_or_default();
    let mut next = words.next();
    let mut schema = "main";
    if next == Some(".") {
        schema = name;
        name = words.next().unwrap_or_default();
        next = words.next();
    }
    let has_argument = matches!(next, Some("=" | "("));
    if has_argument && is_one_of(name, PROCESS_WIDE) {
        return Effect::Process;
    }
    let quoted = !name.starts_with(|c: char| c.is_alphabetic());
    let only_asks = !has_argument || is_one_of(name, QUERIES);
    // The values that a TEMP database keeps in its header end with the connection, not with the file.
    if quoted || !only_asks || (has_argument && !is(schema, "main")) {
        Effect::Session
    } else {
        Effect::None
    }
}

/// The effect of a PRAGMA with an argument, given its parts.
pub(super) fn pragma_with_argument(schema: Option<&str>, name: &str) -> Effect {
    let schema = schema.unwrap_or("main");
    pragma_effect([schema, ".", name, "="].into_iter())
}

/// What the statements of a batch may do, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BatchEffect {
    /// A statement may begin or end a transaction. (So may `BEGIN` and `END` of a trigger.)
    pub(super) transaction: bool,
    /// A statement may change what the next holder would find.
    pub(super) session: bool,
    /// A statement would change the whole process.
    pub(super) process: bool,
}

/// Judged by all words, wherever they stand: to find where a statement ends would take a parser.
pub(super) fn batch_effect(sql: &str) -> BatchEffect {
    const SESSION: &[&str] =
        &["pragma", "attach", "detach", "create", "alter", "drop", "explain", "analyze"];
    let mut effect = BatchEffect::default();
    let mut words = Words(sql);
    while let Some(word) = words.next() {
        effect.transaction |= is_one_of(word, &["begin", "commit", "end", "rollback"]);
        effect.session |= is_one_of(word, SESSION);
        if is(word, "pragma") {
            effect.process |= pragma_effect(Words(words.0)) == Effect::Process;
        }
    }
    effect
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_reads_or_changes_rows_leaves_nothing() {
        for sql in [
            "SELECT 1",
            "  \n-- a comment; PRAGMA cache_size = 1\n/* another */ ; insert INTO t VALUES (1)",
            "WITH t AS (SELECT 1) SELECT * FROM t",
            "values (1)",
            "ROLLBACK TO mine",
            "rollback transaction TO savepoint mine",
            "SAVEPOINT mine",
            "RELEASE mine",
            "PRAGMA cache_size",
            "PRAGMA main.cache_size;",
            "PRAGMA table_info(task)",
            "PRAGMA main.user_version = 3",
            "pragma wal_checkpoint(TRUNCATE)",
            "",
            "--",
            "/*",
        ] {
            assert_eq!(effect(sql), Effect::None, "{sql}");
        }
    }

    #[test]
    fn what_may_leave_something_is_looked_at() {
        for sql in [
            "PRAGMA cache_size = 1",
            "PRAGMA cache_size(1)",
            "/**/pragma/**/cache_size/**/=1",
            "PRAGMA temp.user_version = 3",
            "PRAGMA \"cache_size\" = 1",
            "PRAGMA [cache_size] = 1",
            "EXPLAIN PRAGMA foreign_keys = 0",
            "ATTACH 'a.db' AS a",
            "DETACH a",
            "CREATE TEMP TABLE t (n)",
            "CREATE TABLE temp.t (n)",
            "DROP TABLE t",
            "VACUUM",
            "\u{feff}PRAGMA cache_size = 1",
        ] {
            assert_eq!(effect(sql), Effect::Session, "{sql}");
        }
    }

    #[test]
    fn transaction_control_and_what_reaches_the_process_are_told_apart() {
        for sql in
            ["BEGIN", "begin immediate", "COMMIT;", "END", "ROLLBACK", "ROLLBACK TRANSACTION"]
        {
            assert_eq!(effect(sql), Effect::Transaction, "{sql}");
        }
        for sql in ["PRAGMA hard_heap_limit = 1", "PRAGMA main.soft_heap_limit(1)"] {
            assert_eq!(effect(sql), Effect::Process, "{sql}");
        }
    }

    #[test]
    fn a_batch_is_judged_by_all_its_words() {
        let nothing = BatchEffect::default();
        assert_eq!(batch_effect("INSERT INTO t VALUES (1); UPDATE t SET created = 2"), nothing);
        assert_eq!(batch_effect("INSERT INTO t VALUES ('it''s a pragma; commit')"), nothing);
        let transaction = BatchEffect { transaction: true, ..nothing };
        assert_eq!(batch_effect("SELECT 1; COMMIT; BEGIN"), transaction);
        let session = BatchEffect { session: true, ..nothing };
        assert_eq!(batch_effect("SELECT 1; attach 'a' AS a"), session);
        assert_eq!(batch_effect("INSERT INTO t VALUES ('--'); PRAGMA cache_size = 1"), session);
        let process = BatchEffect { process: true, ..session };
        assert_eq!(batch_effect("SELECT 1; PRAGMA hard_heap_limit = 1"), process);
    }
}
