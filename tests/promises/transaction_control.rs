//! Inside a transaction SQL text neither begins nor ends one, however it is written.

use tenure::{CommitError, Error, Pool, rusqlite};

use crate::recorded::Recorded;
use crate::transactions::{insert, pool, titles};

#[test]
fn sql_text_can_neither_begin_nor_end_a_transaction_inside_of_one() {
    let pool = pool();
    let mut writer = pool.write().unwrap();
    let tx = writer.transaction().unwrap();
    for sql in [
        "COMMIT",
        "-- the end\nEND TRANSACTION",
        "ROLLBACK",
        "BEGIN",
        "INSERT INTO task VALUES ('b'); ROLLBACK; BEGIN",
        "INSERT INTO task VALUES ('c'); /* and */ COMMIT; BEGIN IMMEDIATE",
        "\u{feff}ROLLBACK",
        " \u{b}COMMIT",
        "SELECT $a('); ROLLBACK; BEGIN; --'",
    ] {
        let error = tx.execute_batch(sql).unwrap_err();
        assert_eq!(
            error.sqlite_error_code(),
            Some(rusqlite::ErrorCode::AuthorizationForStatementDenied)
        );
        assert!(error.to_string().contains("use its commit() or rollback()"), "{sql}: {error}");
        assert!(!tx.is_autocommit(), "{sql}");
        if !sql.contains("INSERT") && !sql.contains("SELECT") {
            tx.execute(sql, []).unwrap_err();
            tx.prepare(sql).map(drop).unwrap_err();
            tx.prepare_cached(sql).map(drop).unwrap_err();
            tx.query_row(sql, [], |_| Ok(())).unwrap_err();
        }
    }
    // What only looks like it is run.
    tx.execute_batch(
        "SAVEPOINT mine; INSERT INTO task VALUES ('d'); ROLLBACK TO mine; RELEASE mine;
         CREATE TABLE log (n); INSERT INTO log VALUES (CASE WHEN 1 THEN 2 END);
         CREATE TRIGGER t AFTER INSERT ON log BEGIN DELETE FROM log; DELETE FROM log; END;
         INSERT INTO log VALUES ('COMMIT; BEGIN');",
    )
    .unwrap();
    tx.commit().unwrap();
    drop(writer);
    assert_eq!(titles(&pool), "b c", "the statements before the one that was refused are kept");

    let mut reader = pool.read().unwrap();
    let snapshot = reader.snapshot().unwrap();
    snapshot.prepare("COMMIT").map(drop).unwrap_err();
    drop(snapshot);
    // Outside of one, text still may: check-in ends what it leaves.
    reader.prepare("BEGIN").unwrap().execute([]).unwrap();
}

#[test]
fn sql_text_may_again_once_the_transaction_has_ended() {
    let pool = pool();
    let ended: [fn(&mut tenure::WriteGuard<'_>); 4] = [
        |writer| writer.transaction().unwrap().commit().unwrap(),
        |writer| writer.transaction().unwrap().rollback().unwrap(),
        |writer| drop(writer.transaction().unwrap()),
        |writer| drop(writer.transaction().unwrap().try_commit()),
    ];
    for end in ended {
        let mut writer = pool.write().unwrap();
        end(&mut writer);
        writer.execute_batch("BEGIN; INSERT INTO task VALUES ('a'); ROLLBACK").unwrap();
    }
    // Nor is the next holder bound by one that was forgotten.
    let mut writer = pool.write().unwrap();
    std::mem::forget(writer.transaction().unwrap());
    drop(writer);
    pool.write().unwrap().execute_batch("BEGIN; COMMIT").unwrap();
    // Nor by one that SQLite had rolled back before it was forgotten.
    let mut writer = pool.write().unwrap();
    let tx = writer.transaction().unwrap();
    insert(&tx, "a").unwrap();
    tx.execute("INSERT OR ROLLBACK INTO task VALUES ('a')", []).unwrap_err();
    std::mem::forget(tx);
    drop(writer);
    pool.write().unwrap().execute_batch("BEGIN; COMMIT").unwrap();
}

#[test]
fn nothing_is_run_after_sqlite_has_rolled_the_transaction_back() {
    let pool = pool();
    let lose = |tx: &tenure::Transaction<'_>| {
        insert(tx, "a").unwrap();
        tx.execute("INSERT OR ROLLBACK INTO task VALUES ('a')", []).unwrap_err();
    };
    for sql in ["INSERT INTO task VALUES ('b')", "SAVEPOINT mine", "SELECT 1"] {
        let result = pool.transaction(|tx| {
            lose(tx);
            let error = tx.execute_batch(sql).unwrap_err();
            assert!(error.to_string().contains("the transaction is over"), "{error}");
            tx.prepare(sql).map(drop).unwrap_err();
            Ok(())
        });
        assert!(matches!(result, Err(Error::Commit(CommitError::NotOpen))), "{result:?}");
    }
    let result = pool.transaction(|tx| {
        lose(tx);
        Ok(tx.execute_batch("INSERT INTO task VALUES ('b'); INSERT INTO task VALUES ('c')")?)
    });
    assert!(matches!(result, Err(Error::Sqlite(_))), "{result:?}");
    // And in the middle of a batch.
    let result = pool.transaction(|tx| {
        insert(tx, "a")?;
        tx.execute_batch("INSERT OR ROLLBACK INTO task VALUES ('a'); SAVEPOINT mine").unwrap_err();
        Ok(())
    });
    assert!(matches!(result, Err(Error::Commit(CommitError::NotOpen))), "{result:?}");
    assert_eq!(titles(&pool), "");
}

#[test]
fn sql_that_sqlite_reads_otherwise_than_it_looks_cannot_commit() {
    let pool = pool();
    for hidden in ["SELECT $a(\u{feff}'); COMMIT; --'", "SELECT $a\u{feff}('); COMMIT; --'"] {
        let result = pool.transaction(|tx| {
            insert(tx, "undone")?;
            tx.execute_batch(hidden)?;
            Ok(())
        });
        assert!(matches!(result, Err(Error::Sqlite(_))), "{result:?}");
        assert_eq!(titles(&pool), "");
    }
}

#[test]
fn a_statement_whose_text_is_too_long_to_be_looked_at_cannot_commit() {
    let pool = Recorded::with(Pool::builder().readers(1).on_connect(|connection, _| {
        connection.set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_LENGTH, 10_000)?;
        Ok(())
    }));
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT UNIQUE)").unwrap();
    let sql = format!("/*{}*/ COMMIT", "x".repeat(10_000));
    let result = pool.transaction(|tx| {
        insert(tx, "undone")?;
        tx.execute_batch(&sql)?;
        Ok(())
    });
    assert!(matches!(result, Err(Error::Sqlite(_))), "{result:?}");
    assert_eq!(titles(&pool), "");
    // What has no such word is not mistaken for it.
    let long = format!("/*{}*/ INSERT INTO task VALUES ('a')", "x".repeat(10_000));
    pool.transaction(|tx| Ok(tx.execute_batch(&long)?)).unwrap();
    assert_eq!(titles(&pool), "a");
}

/// SQLite rolls the whole transaction back.
const LOSES_IT: &str = "INSERT OR ROLLBACK INTO task SELECT * FROM task";

#[test]
fn a_savepoint_cannot_take_the_place_of_a_transaction_that_was_lost() {
    let pool = pool();
    let lose = |tx: &tenure::Session| {
        insert(tx, "lost")?;
        for refused in
            [tx.prepare("SAVEPOINT mine").map(drop), tx.prepare_cached("SAVEPOINT mine").map(drop)]
        {
            assert!(refused.unwrap_err().to_string().contains("use savepoint()"));
        }
        tx.execute("SAVEPOINT mine", [])?;
        tx.execute(LOSES_IT, []).unwrap_err();
        tx.execute("SAVEPOINT mine", []).unwrap_err();
        Ok::<_, Error>(())
    };
    let lost = pool.transaction(|tx| lose(tx)).unwrap_err();
    assert!(matches!(lost, Error::Commit(CommitError::NotOpen)), "{lost}");
    let lost = pool.group_commit(move |tx| lose(tx)).unwrap_err();
    assert!(matches!(lost, Error::Commit(CommitError::NotOpen)), "{lost}");
    assert_eq!(titles(&pool), "");
    // Another transaction on the same guard is as good as new.
    let mut writer = pool.write().unwrap();
    let tx = writer.transaction().unwrap();
    lose(&tx).unwrap();
    drop(tx);
    let tx = writer.transaction().unwrap();
    insert(&tx, "kept").unwrap();
    tx.commit().unwrap();
    drop(writer);
    assert_eq!(titles(&pool), "kept");
}

#[test]
fn one_that_is_given_back_after_it_was_lost_runs_nothing_more() {
    let pool = pool();
    let mut writer = pool.write().unwrap();
    let tx = writer.transaction().unwrap();
    insert(&tx, "lost").unwrap();
    tx.execute(LOSES_IT, []).unwrap_err();
    let given_back = tx.try_commit().unwrap_err();
    assert!(matches!(given_back.error(), CommitError::NotOpen));
    let mut tx = given_back.into_transaction();
    insert(&tx, "by itself").unwrap_err();
    tx.execute_batch("BEGIN; INSERT INTO task VALUES ('by itself')").unwrap_err();
    tx.savepoint().map(drop).unwrap_err();
    let again = tx.try_commit().unwrap_err();
    assert!(matches!(again.error(), CommitError::NotOpen));
    drop(again);
    insert(&writer, "after it").unwrap();
    drop(writer);
    assert_eq!(titles(&pool), "after it");
}
