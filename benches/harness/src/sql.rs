//! The tables and statements that all peers use.

/// What every database of the benches has. `item` is read, `note` is written.
pub const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    CREATE TABLE item (id INTEGER PRIMARY KEY, number INTEGER NOT NULL, body TEXT NOT NULL);
    CREATE TABLE note (id INTEGER PRIMARY KEY, caller INTEGER NOT NULL, body TEXT NOT NULL);
";

pub const INSERT_ITEM: &str = "INSERT INTO item (id, number, body) VALUES (?1, ?1, ?2)";

pub const QUERY: &str = "SELECT number FROM item WHERE id = ?1";

pub const INSERT: &str = "INSERT INTO note (caller, body) VALUES (?1, ?2)";

/// About what a log entry or a small event has.
pub const BODY: &str = "A hundred bytes of text: enough to be a row like others, too few to make \
                        the disk's speed matter..";
