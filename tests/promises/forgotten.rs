//! A statement that is leaked keeps no snapshot, and is never freed: somebody may have it yet.

use std::mem;

use tenure::rusqlite::Connection;
use tenure::{Pool, ReadSession, Session};

use crate::logged::{Entry, logged};

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

/// Forgets something on the writer, and looks at what it keeps.
fn nothing_is_held(forget: impl Fn(&Session)) {
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
    let ((), entries) = logged(|| drop(pool));
    let says = |entry: &Entry| entry.message().contains("a connection cannot be closed");
    assert!(entries.iter().any(says), "{entries:?}");
    // It is in nobody's way.
    let other = Connection::open(&file).unwrap();
    other.execute_batch("INSERT INTO text VALUES ('the last')").unwrap();
    let busy: i64 =
        other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!(busy, 0, "a snapshot is still held");
}

#[test]
fn statements_that_were_never_stepped() {
    nothing_is_held(|session| {
        mem::forget(session.prepare("SELECT * FROM task").unwrap());
        mem::forget(session.prepare_cached("SELECT 1").unwrap());
        mem::forget(session.rusqlite().prepare("DELETE FROM task").unwrap());
    });
}

#[test]
fn rows_that_were_not_read_to_the_end() {
    nothing_is_held(|session| forget_rows(session, "SELECT * FROM task"));
}

#[test]
fn statements_on_virtual_tables() {
    nothing_is_held(|session| {
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
    nothing_is_held(|session| {
        mem::forget(session.blob_open("main", "file", "bytes", 1, true).unwrap());
    });
}

/// The statement that an index of external content keeps for itself must not be freed twice.
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

/// Each lies in the cache of the other connection then, which frees it.
#[test]
fn statements_that_have_changed_places() {
    let pools = [tenure::testing::temporary().unwrap(), tenure::testing::temporary().unwrap()];
    let [one, other] = pools.each_ref().map(|pool| pool.read().unwrap());
    let [mut left, mut right] =
        [&one, &other].map(|reader| reader.rusqlite().prepare_cached("SELECT 1").unwrap());
    mem::swap(&mut *left, &mut *right);
    drop((left, right));
    drop((one, other));
    drop(pools);
}
