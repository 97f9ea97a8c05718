//! What a piece of SQL may leave behind on its connection, judged by its words.
//!
//! Queries and changes of rows leave nothing that check-in does not see for free, and they are nearly
//! everything that is run. The rest (PRAGMA, ATTACH, CREATE TEMP ..) makes check-in look closely. To
//! tell one from the other takes a look at the first word, some nanoseconds. An authorizer was the
//! alternative: SQLite would call it for what each statement does. It lost because there is only one
//! for a connection, and `on_connect` may have set it; because it costs 70 ns for each statement
//! prepared; and because a cached statement does not pass it again.
//!
//! The judgement errs on the side of a closer look. It knows how SQLite cuts text into words (its white
//! space, comments, quotes and variables), or a quote in the wrong place would hide what follows.

/// What a piece of SQL may do to its connection, besides reading and changing rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    /// It begins or ends a transaction.
    pub(super) transaction: bool,
    /// It may set a savepoint.
    pub(super) savepoint: bool,
    /// It may change what the next holder would find.
    pub(super) session: bool,
    /// It changes something that cannot be asked for, and takes effect later.
    pub(super) pending: bool,
    /// It would let a reader write.
    pub(super) query_only: bool,
    /// It would change the whole process.
    pub(super) process: bool,
    /// It would set the journal mode, of the file and for all connections, to this.
    pub(super) journal_mode: Option<&'static str>,
}

impl Effect {
    const NONE: Self = Self {
        transaction: false,
        savepoint: false,
        session: false,
        pending: false,
        query_only: false,
        process: false,
        journal_mode: None,
    };
    pub(super) const TRANSACTION: Self = Self { transaction: true, ..Self::NONE };
    const SAVEPOINT: Self = Self { savepoint: true, ..Self::NONE };
    const SESSION: Self = Self { session: true, ..Self::NONE };

    fn and(self, other: Self) -> Self {
        Self {
            transaction: self.transaction | other.transaction,
            savepoint: self.savepoint | other.savepoint,
            session: self.session | other.session,
            pending: self.pending | other.pending,
            query_only: self.query_only | other.query_only,
            process: self.process | other.process,
            journal_mode: match (self.journal_mode, other.journal_mode) {
                (Some(one), Some(another)) if one != another => Some("several"),
                (one, another) => one.or(another),
            },
        }
    }
}

/// What statements begin with that only read and change rows.
const ROWS: &[&str] = &["select", "insert", "update", "delete", "replace", "with", "values"];

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

/// PRAGMAs whose new value shows only after the next VACUUM.
const PENDING: &[&str] = &["auto_vacuum", "page_size"];

const JOURNAL_MODES: &[&str] = &["delete", "memory", "off", "persist", "truncate", "wal"];

/// PRAGMAs that change the whole process.
const PROCESS_WIDE: &[&str] =
    &["data_store_directory", "hard_heap_limit", "soft_heap_limit", "temp_store_directory"];

fn is(word: &str, other: &str) -> bool {
    word.eq_ignore_ascii_case(other)
}

fn is_one_of(word: &str, others: &[&str]) -> bool {
    others.iter().any(|other| is(word, other))
}

/// What SQLite takes for white space.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

/// What may stand before a word. A byte order mark is white space there; in a word it is a part of that.
fn is_between(c: char) -> bool {
    is_space(c) || c == '\u{feff}'
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'t> {
    Word(&'t str),
    Quoted(&'t str),
    Sign(char),
}

impl<'t> Token<'t> {
    fn is(self, word: &str) -> bool {
        matches!(self, Self::Word(found) if is(found, word))
    }

    fn is_one_of(self, words: &[&str]) -> bool {
        matches!(self, Self::Word(found) if is_one_of(found, words))
    }

    /// A name may stand in quotes, a keyword may not.
    fn name(self) -> &'t str {
        match self {
            Self::Word(name) | Self::Quoted(name) => name,
            Self::Sign(_) => "",
        }
    }
}

/// The words, names and signs of SQL, without comments.
#[derive(Clone, Copy)]
struct Tokens<'t>(&'t str);

impl<'t> Tokens<'t> {
    /// Goes on after the first `end`, or to the end of the text.
    fn skip_past(&mut self, from: usize, end: &str) -> &'t str {
        let text = &self.0[from..];
        let (inside, rest) = text.split_once(end).unwrap_or((text, ""));
        self.0 = rest;
        inside
    }
}

impl<'t> Iterator for Tokens<'t> {
    type Item = Token<'t>;

    fn next(&mut self) -> Option<Token<'t>> {
        loop {
            self.0 = self.0.trim_start_matches(is_between);
            if self.0.starts_with("--") {
                self.skip_past(2, "\n");
            } else if self.0.starts_with("/*") {
                self.skip_past(2, "*/");
            } else {
                break;
            }
        }
        let first = self.0.chars().next()?;
        match first {
            // A doubled quote reads as two texts side by side, which is no different here.
            '\'' => return Some(Token::Quoted(self.skip_past(1, "'"))),
            '"' => return Some(Token::Quoted(self.skip_past(1, "\""))),
            '`' => return Some(Token::Quoted(self.skip_past(1, "`"))),
            '[' => return Some(Token::Quoted(self.skip_past(1, "]"))),
            _ => {}
        }
        let belongs = |c: char| c == '_' || c == '$' || c.is_ascii_alphanumeric() || !c.is_ascii();
        let length_of_word = |text: &str| text.find(|c| !belongs(c)).unwrap_or(text.len());
        if matches!(first, '$' | '@' | ':' | '#') {
            // A variable. It may end in parentheses, whose content belongs to it up to a space.
            let mut rest = &self.0[1..];
            rest = &rest[length_of_word(rest)..];
            if rest.starts_with('(')
                && let Some(end) = rest.find(|c| c == ')' || is_space(c))
            {
                rest = &rest[end + rest[end..].chars().next().map_or(0, char::len_utf8)..];
            }
            self.0 = rest;
            return Some(Token::Sign(first));
        }
        let length = length_of_word(self.0);
        if length == 0 {
            self.0 = &self.0[first.len_utf8()..];
            return Some(Token::Sign(first));
        }
        let (word, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(Token::Word(word))
    }
}

/// The effect of a text that is prepared as one statement.
///
/// What stands behind the statement is not run; but it is prepared, to refuse it, and many a PRAGMA
/// acts when it is prepared.
pub(super) fn effect(sql: &str) -> Effect {
    if is_about_rows(sql) {
        return Effect::NONE;
    }
    let first = statement_effect(Tokens(sql));
    match sql.split_once(';') {
        Some((_, tail)) if !tail.trim_end_matches(|c| c == ';' || is_between(c)).is_empty() => {
            // The keywords of transactions also stand in triggers, and do nothing when prepared.
            Effect { transaction: false, ..batch_effect(sql) }.and(first)
        }
        _ => first,
    }
}

/// Whether it is one statement that does no more than read or change rows. Nearly all that is run, found
/// in a few comparisons; `false` = perhaps.
pub(super) fn is_about_rows(sql: &str) -> bool {
    !sql.as_bytes().contains(&b';') && is_one_of(first_letters(sql), ROWS)
}

fn first_letters(sql: &str) -> &str {
    let sql = sql.trim_ascii_start();
    let end = sql.bytes().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(sql.len());
    &sql[..end]
}

fn statement_effect(tokens: Tokens<'_>) -> Effect {
    let mut tokens = tokens.skip_while(|token| *token == Token::Sign(';'));
    let Some(first) = tokens.next() else {
        return Effect::NONE;
    };
    if first.is_one_of(ROWS) || first.is("release") {
        return Effect::NONE;
    }
    if first.is("savepoint") {
        return Effect::SAVEPOINT;
    }
    if first.is_one_of(&["begin", "commit", "end"]) {
        return Effect::TRANSACTION;
    }
    if first.is("rollback") {
        let goes_on = tokens.find(|token| !token.is("transaction"));
        let to_savepoint = goes_on.is_some_and(|token| token.is("to"));
        return if to_savepoint { Effect::NONE } else { Effect::TRANSACTION };
    }
    if first.is("pragma") {
        return pragma_effect(tokens);
    }
    // What is explained may be a PRAGMA that acts when it is prepared.
    let pragma = if first.is("explain") && tokens.any(|token| token.is("pragma")) {
        pragma_effect(tokens)
    } else {
        Effect::NONE
    };
    Effect::SESSION.and(pragma)
}

/// The effect of a PRAGMA, given what follows the word.
fn pragma_effect<'t>(mut tokens: impl Iterator<Item = Token<'t>>) -> Effect {
    let nothing = Token::Sign(' ');
    let mut name = tokens.next().unwrap_or(nothing).name();
    let mut next = tokens.next();
    let mut schema = "main";
    if next == Some(Token::Sign('.')) {
        schema = name;
        name = tokens.next().unwrap_or(nothing).name();
        next = tokens.next();
    }
    if !matches!(next, Some(Token::Sign('=' | '('))) {
        return Effect::NONE;
    }
    if is_one_of(name, PROCESS_WIDE) {
        return Effect { process: true, ..Effect::NONE };
    }
    // The values that a TEMP database keeps in its header end with the connection, not with the file.
    if is_one_of(name, QUERIES) && is(schema, "main") {
        return Effect::NONE;
    }
    let pending = is_one_of(name, PENDING);
    let sets_mode = is(name, "journal_mode") && is(schema, "main");
    let journal_mode = sets_mode.then(|| {
        let mode = tokens.next().unwrap_or(nothing).name();
        JOURNAL_MODES.iter().find(|known| is(mode, known)).copied().unwrap_or("another")
    });
    Effect { pending, query_only: is(name, "query_only"), journal_mode, ..Effect::SESSION }
}

/// The effect of a PRAGMA with an argument, given its parts.
pub(super) fn pragma_with_argument(schema: Option<&str>, name: &str) -> Effect {
    let schema = Token::Word(schema.unwrap_or("main"));
    let name = Token::Word(name);
    pragma_effect([schema, Token::Sign('.'), name, Token::Sign('=')].into_iter())
}

/// The effects of the statements of a batch, all together.
///
/// Judged by all words, wherever they stand: to find where a statement ends would take a parser.
pub(super) fn batch_effect(sql: &str) -> Effect {
    const SESSION: &[&str] =
        &["pragma", "attach", "detach", "create", "alter", "drop", "explain", "analyze"];
    let mut effect = Effect::NONE;
    let mut tokens = Tokens(sql);
    while let Some(token) = tokens.next() {
        effect.transaction |= token.is_one_of(&["begin", "commit", "end", "rollback"]);
        effect.savepoint |= token.is("savepoint");
        effect.session |= token.is_one_of(SESSION);
        if token.is("pragma") {
            effect = effect.and(pragma_effect(tokens));
        }
    }
    effect
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: Effect = Effect { process: true, ..Effect::NONE };

    #[test]
    fn what_only_reads_or_changes_rows_leaves_nothing() {
        for sql in [
            "SELECT 1",
            "  \n-- a comment; PRAGMA cache_size = 1\n/* another */ ; insert INTO t VALUES (1)",
            "WITH t AS (SELECT 1) SELECT * FROM t;  ;",
            "values (1)",
            "ROLLBACK TO mine",
            "rollback transaction TO savepoint mine",
            "RELEASE mine",
            "PRAGMA cache_size",
            "PRAGMA main.cache_size;",
            "PRAGMA table_info(task)",
            "PRAGMA main.user_version = 3",
            "pragma wal_checkpoint(TRUNCATE)",
            "INSERT INTO t VALUES ('a; commit'), ('commit')",
            "",
            "--",
            "/*",
        ] {
            assert_eq!(effect(sql), Effect::NONE, "{sql}");
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
            "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; END",
            "DROP TABLE t",
            "VACUUM",
            "\u{feff}PRAGMA cache_size = 1",
            "PRAGMA foreign_keys \u{b}= 0",
            "PRAGMA main \u{feff}.cache_size = 5",
            "SELECT 1; PRAGMA foreign_keys = OFF",
            "SELECT $a('); PRAGMA foreign_keys = 0; --'",
            "SELECT $a(\u{feff}'); PRAGMA foreign_keys = 0; --'",
            "SELECT $a\u{feff}('); PRAGMA foreign_keys = 0; --'",
            "SELECT $a::b('); PRAGMA foreign_keys = 0; --'",
            "(",
        ] {
            assert_eq!(effect(sql), Effect::SESSION, "{sql}");
        }
        for sql in ["PRAGMA auto_vacuum = FULL", "SELECT 1; PRAGMA 'page_size' = 1024"] {
            assert!(effect(sql).pending, "{sql}");
        }
        for sql in ["PRAGMA query_only = OFF", "EXPLAIN PRAGMA query_only(0)"] {
            assert!(effect(sql).query_only, "{sql}");
        }
    }

    #[test]
    fn transaction_control_and_what_reaches_the_process_are_told_apart() {
        for sql in [
            "BEGIN",
            "begin immediate",
            "COMMIT;",
            "END",
            "ROLLBACK",
            "ROLLBACK TRANSACTION",
            "\u{feff}ROLLBACK",
            " \u{b}COMMIT",
        ] {
            assert_eq!(effect(sql), Effect::TRANSACTION, "{sql}");
        }
        for sql in [
            "PRAGMA hard_heap_limit = 1",
            "PRAGMA main.soft_heap_limit(1)",
            "PRAGMA \"soft_heap_limit\" = 1",
            "PRAGMA main.'temp_store_directory' = ''",
        ] {
            assert_eq!(effect(sql), PROCESS, "{sql}");
        }
        for sql in ["EXPLAIN PRAGMA soft_heap_limit = 1", "SELECT 1; PRAGMA soft_heap_limit = 1"] {
            assert!(effect(sql).process, "{sql}");
        }
    }

    #[test]
    fn a_savepoint_may_stay() {
        for sql in ["SAVEPOINT mine", " /* */ savepoint mine;"] {
            assert_eq!(effect(sql), Effect::SAVEPOINT, "{sql}");
        }
        for sql in ["SELECT 1; SAVEPOINT mine", "savepoint a; DELETE FROM t"] {
            assert_eq!(batch_effect(sql), Effect::SAVEPOINT, "{sql}");
        }
    }

    #[test]
    fn a_batch_is_judged_by_all_its_words() {
        for sql in [
            "INSERT INTO t VALUES (1); UPDATE t SET created = 2",
            "INSERT INTO t VALUES ('it''s a pragma; commit')",
        ] {
            assert_eq!(batch_effect(sql), Effect::NONE, "{sql}");
        }
        for sql in [
            "SELECT 1; COMMIT; BEGIN",
            "SELECT $a('); ROLLBACK; BEGIN; --'",
            "SELECT $a(\u{feff}'); COMMIT; --'",
            "SELECT $a\u{feff}('); COMMIT; --'",
        ] {
            assert_eq!(batch_effect(sql), Effect::TRANSACTION, "{sql}");
        }
        for sql in [
            "SELECT 1; attach 'a' AS a",
            "INSERT INTO t VALUES ('--'); PRAGMA cache_size = 1",
            "SELECT 1; DETACH a",
            "DROP TABLE t",
        ] {
            assert_eq!(batch_effect(sql), Effect::SESSION, "{sql}");
        }
        let both = PROCESS.and(Effect::SESSION);
        assert_eq!(batch_effect("SELECT 1; PRAGMA hard_heap_limit = 1"), both);
    }
}
