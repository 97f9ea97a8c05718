//! A statement that is leaked keeps nothing open: no snapshot while its connection lives, no file
//! afterwards.

use std::fs;
use std::mem;
use std::path::Path;

use tenure::rusqlite::Connection;
use tenure::{Pool, ReadSession, Session};

use crate::until::until;

/// How many files of this process are in that directory.
fn open_files(directory: &Path) -> usize {
    let descriptors = fs::read_dir("/proc/self/fd").unwrap();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(directory)).count()
}

fn forget_rows(session: &ReadSession, sql: &str) {
    let mut statement = session.prepare(sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    assert!(rows.next().unwrap().is_some());
    mem::forget(rows);
    mem::forget(statement);
}

const SETUP: &str = "
    CREATE TABLE task (title TEXT);
    INSERT INTO task VALUES ('a'), ('b');
    CREATE VIRTUAL TABLE text USING fts5 (body);
    INSERT INTO text VALUES ('a text'), ('another text');
    CREATE VIRTUAL TABLE box USING rtree (id, x1, x2);
    INSERT INTO box VALUES (1, 0, 1), (2, 1, 2);
    CREATE TABLE file (bytes BLOB);
    INSERT INTO file VALUES (x'0102');";

/// Forgets something on the writer, and looks at what is open while the pool lives and after.
fn nothing_stays_open(forget: impl Fn(&Session)) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.db");
    let setup = |connection: &mut Connection| Ok(connection.execute_batch(SETUP)?);
    let pool = Pool::builder().database(&file).readers(1).setup(setup).open().unwrap();
    for _ in 0..3 {
        forget(&pool.write().unwrap());
    }
    // The connection goes on to work, virtual tables and all.
    let writer = pool.write().unwrap();
    writer.execute("INSERT INTO text VALUES ('more text')", []).unwrap();
    writer.execute("INSERT INTO box VALUES (3, 2, 3)", []).unwrap();
    let found = "SELECT count(*) FROM text WHERE text MATCH 'text'";
    assert_eq!(writer.query_one(found, [], |row| row.get::<_, i64>(0)).unwrap(), 3);
    let busy: i64 =
        writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!(busy, 0, "a snapshot is still held");
    drop(writer);
    assert!(open_files(directory.path()) > 0);
    drop(pool);
    until("every file is closed", || open_files(directory.path()) == 0);
}

#[test]
fn statements_that_were_never_stepped() {
    nothing_stays_open(|session| {
        mem::forget(session.prepare("SELECT * FROM task").unwrap());
        mem::forget(session.prepare_cached("SELECT 1").unwrap());
        mem::forget(session.rusqlite().prepare("DELETE FROM task").unwrap());
    });
}

#[test]
fn rows_that_were_not_read_to_the_end() {
    nothing_stays_open(|session| forget_rows(session, "SELECT * FROM task"));
}

#[test]
fn statements_on_virtual_tables() {
    nothing_stays_open(|session| {
        mem::forget(session.prepare("SELECT * FROM text WHERE text MATCH 'a'").unwrap());
        mem::forget(session.prepare("INSERT INTO text VALUES ('x')").unwrap());
        mem::forget(session.prepare("SELECT * FROM box").unwrap());
        mem::forget(session.prepare("SELECT * FROM task").unwrap());
        forget_rows(session, "SELECT * FROM text WHERE text MATCH 'text' ORDER BY rank");
        forget_rows(session, "SELECT * FROM box WHERE x1 < 5");
        forget_rows(session, "SELECT * FROM pragma_table_info('task')");
        forget_rows(session, "SELECT value FROM json_each('[1, 2]')");
    });
}

#[test]
fn a_blob() {
    nothing_stays_open(|session| {
        mem::forget(session.blob_open("main", "file", "bytes", 1, true).unwrap());
    });
}

#[test]
fn a_statement_that_cannot_be_prepared_again() {
    let directory = tempfile::tempdir().unwrap();
    let pool = Pool::open(directory.path().join("app.db")).unwrap();
    let writer = pool.write().unwrap();
    writer.execute_batch("CREATE TABLE gone (n)").unwrap();
    mem::forget(writer.prepare("SELECT * FROM gone").unwrap());
    writer.execute_batch("DROP TABLE gone").unwrap();
    drop(writer);
    drop(pool);
    until("every file is closed", || open_files(directory.path()) == 0);
}

/// The statement that an index of external content keeps for itself reads a virtual table, like one
/// that was leaked. The file may stay open then; nothing may be freed twice.
#[test]
fn a_statement_on_an_index_of_another_virtual_table() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.db");
    let setup = |connection: &mut Connection| {
        Ok(connection.execute_batch(
            "CREATE VIRTUAL TABLE a USING fts5 (b); INSERT INTO a VALUES ('x y');
             CREATE VIEW v AS SELECT rowid AS id, b FROM a;
             CREATE VIRTUAL TABLE c USING fts5 (b, content = 'v', content_rowid = 'id');
             INSERT INTO c (rowid, b) VALUES (1, 'x y');",
        )?)
    };
    let pool = Pool::builder().database(&file).readers(1).setup(setup).open().unwrap();
    let sql = "SELECT b FROM c WHERE c MATCH 'x'";
    let writer = pool.write().unwrap();
    mem::forget(writer.prepare(sql).unwrap());
    writer.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    drop(writer);
    drop(pool);
}
