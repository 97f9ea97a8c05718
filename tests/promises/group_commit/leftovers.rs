//! Nothing of a closure's reaches the next one of its batch, nor the next batch.

use std::mem;
use std::sync::mpsc;
use std::thread;

use tenure::AfterRaw;

use super::{Gathered, batches, builder, insert, pool, titles, writes};
use crate::recorded::Recorded;

#[test]
fn what_was_inserted_and_changed_last_is_forgotten() {
    let pool = pool();
    let gathered = Gathered::on(&pool);
    let callers = [true, false, true, true].map(|well| {
        gathered.caller(move |tx| {
            let before = (tx.last_insert_rowid(), tx.changes(), tx.total_changes());
            tx.execute("INSERT INTO task VALUES (NULL), (NULL)", [])?;
            let after = (tx.changes(), tx.total_changes());
            let seen = (before, after, tx.last_insert_rowid());
            if well { Ok(seen) } else { Err(tenure::Error::other(format!("{seen:?}"))) }
        })
    });
    gathered.go();
    let told = callers.map(|caller| match caller.join().unwrap() {
        Ok(seen) => format!("{seen:?}"),
        Err(error) => error.to_string(),
    });
    let seen = |row| format!("((0, 0, 0), (2, 2), {row})");
    assert_eq!(told, [seen(2), seen(4), seen(4), seen(6)]);
    assert_eq!(batches(&pool), (1.0, 4.0));
}

#[test]
fn rows_that_were_forgotten_are_in_nobodys_way() {
    let pool = pool();
    pool.group_commit(|tx| Ok(tx.execute_batch("INSERT INTO task VALUES ('a'), ('b')")?)).unwrap();
    let gathered = Gathered::on(&pool);
    let forgets = |fails: bool| {
        move |tx: &mut tenure::Savepoint<'_>| {
            let mut statement = tx.prepare("SELECT title FROM task")?;
            let mut rows = statement.query([])?;
            rows.next()?.unwrap();
            mem::forget(rows);
            mem::forget(statement);
            assert!(tx.is_busy());
            insert(tx, if fails { "undone" } else { "kept" })?;
            if fails { Err(tenure::Error::other("no")) } else { Ok(()) }
        }
    };
    let kept = gathered.caller(forgets(false));
    let fails = gathered.caller(forgets(true));
    let next = gathered.caller(|tx| {
        assert!(!tx.is_busy());
        Ok(insert(tx, "next")?)
    });
    gathered.go();
    kept.join().unwrap().unwrap();
    assert_eq!(fails.join().unwrap().unwrap_err().to_string(), "no");
    next.join().unwrap().unwrap();
    assert_eq!((titles(&pool).as_str(), batches(&pool)), ("a b kept next", (2.0, 4.0)));
    assert_eq!(pool.repairs("unfinished_statement"), 2.0);
}

#[test]
fn the_state_of_the_session_is_not_inherited() {
    let leave = [
        "PRAGMA cache_size = 7",
        "PRAGMA recursive_triggers = ON",
        "CREATE TEMP TABLE left (n)",
        "CREATE TEMP TRIGGER left AFTER INSERT ON task BEGIN SELECT raise(FAIL, 'left'); END",
        "ATTACH ':memory:' AS left",
        "PRAGMA defer_foreign_keys = ON",
    ];
    let look = "SELECT (SELECT count(*) FROM temp.sqlite_schema)
                || (SELECT count(*) FROM pragma_database_list WHERE name = 'left')
                || (SELECT recursive_triggers FROM pragma_recursive_triggers)
                || (SELECT defer_foreign_keys FROM pragma_defer_foreign_keys)
                || ' ' || (SELECT cache_size FROM pragma_cache_size)";
    for fails in [false, true] {
        for sql in leave {
            let pool = pool();
            let usual =
                pool.write().unwrap().query_one(look, [], |row| row.get::<_, String>(0)).unwrap();
            let gathered = Gathered::on(&pool);
            let leaves = gathered.caller(move |tx| {
                insert(tx, "a")?;
                tx.execute_batch(sql)?;
                if fails { Err(tenure::Error::other("no")) } else { Ok(()) }
            });
            let next = gathered.caller(move |tx| {
                insert(tx, "b")?;
                Ok(tx.query_one(look, [], |row| row.get::<_, String>(0))?)
            });
            gathered.go();
            assert_eq!(leaves.join().unwrap().is_err(), fails, "{sql}");
            assert_eq!(next.join().unwrap().unwrap(), usual, "{sql}");
            assert_eq!(titles(&pool), if fails { "b" } else { "a b" });
            assert_eq!(batches(&pool), (2.0, 2.0), "{sql}");
        }
    }
}

#[test]
fn a_savepoint_left_open_is_not_found_by_the_next() {
    for alone_first in [true, false] {
        let pool = pool();
        let gathered = Gathered::on(&pool);
        let before = (!alone_first).then(|| gathered.caller(writes("before")));
        let forgets = gathered.caller(|tx| {
            tx.execute_batch("SAVEPOINT mine")?;
            insert(tx, "kept")?;
            Ok(())
        });
        let fails = gathered.caller(|tx| {
            insert(tx, "undone")?;
            Ok(tx.execute_batch("ROLLBACK TO mine")?)
        });
        let next = gathered.caller(writes("next"));
        gathered.go();
        let error = fails.join().unwrap().unwrap_err();
        assert!(error.to_string().contains("no such savepoint"), "{error}");
        if let Some(before) = before {
            before.join().unwrap().unwrap();
        }
        forgets.join().unwrap().unwrap();
        next.join().unwrap().unwrap();
        let kept = if alone_first { "kept next" } else { "before kept next" };
        assert_eq!(titles(&pool), kept);
    }
}

#[test]
fn after_the_connection_itself_was_used_there_is_another_batch() {
    for after_raw in [AfterRaw::Inspect, AfterRaw::Discard] {
        let pool = Recorded::with(builder().after_raw(after_raw));
        let gathered = Gathered::on(&pool);
        let raw = gathered.caller(|tx| {
            insert(tx, "a")?;
            Ok(tx.rusqlite().query_row("SELECT 1", [], |row| row.get::<_, i64>(0))?)
        });
        let next = gathered.caller(writes("b"));
        gathered.go();
        assert_eq!(raw.join().unwrap().unwrap(), 1);
        next.join().unwrap().unwrap();
        assert_eq!((titles(&pool).as_str(), batches(&pool)), ("a b", (2.0, 2.0)));
        let discarded = if after_raw == AfterRaw::Discard { 1.0 } else { 0.0 };
        assert_eq!(pool.repairs("discarded"), discarded);
    }
}

#[test]
fn an_interrupt_handle_reaches_its_own_closure_only() {
    let pool = pool();
    let gathered = Gathered::on(&pool);
    let (sender, receiver) = mpsc::channel();
    let mut keeps = Vec::new();
    for fails in [false, true] {
        let sender = sender.clone();
        keeps.push(gathered.caller(move |tx| {
            let handle = tx.interrupt_handle();
            assert!(handle.interrupt());
            sender.send(handle).unwrap();
            if fails { Err(tenure::Error::other("no")) } else { Ok(()) }
        }));
    }
    let next = gathered.caller(move |_| {
        let handles: Vec<_> = receiver.try_iter().collect();
        Ok(handles.iter().map(tenure::InterruptHandle::interrupt).collect::<Vec<_>>())
    });
    gathered.go();
    assert_eq!(
        keeps.into_iter().map(|caller| caller.join().unwrap().is_ok()).collect::<Vec<_>>(),
        [true, false]
    );
    assert_eq!(next.join().unwrap().unwrap(), [false, false]);
    assert_eq!(batches(&pool), (1.0, 3.0));
}

#[test]
fn an_interrupt_with_rows_forgotten_ends_neither_the_savepoint_nor_the_batch() {
    let pool = pool();
    let gathered = Gathered::on(&pool);
    let before =
        gathered.caller(|tx| Ok(tx.execute_batch("INSERT INTO task VALUES ('a'), ('b')")?));
    let interrupts = gathered.caller(|tx| {
        let handle = tx.interrupt_handle();
        let mut statement = tx.prepare("SELECT title FROM task")?;
        let mut rows = statement.query([])?;
        rows.next()?.unwrap();
        mem::forget(rows);
        mem::forget(statement);
        // What runs now, and all that begins before it has ended, is stopped.
        assert!(handle.interrupt());
        Ok(())
    });
    let next = gathered.caller(writes("c"));
    gathered.go();
    before.join().unwrap().unwrap();
    interrupts.join().unwrap().unwrap();
    next.join().unwrap().unwrap();
    assert_eq!((titles(&pool).as_str(), batches(&pool)), ("a b c", (1.0, 3.0)));
}

#[test]
fn an_interrupt_that_comes_late_hits_nothing() {
    let pool = pool();
    for _ in 0..200 {
        let result = pool.group_commit(|tx| {
            let handle = tx.interrupt_handle();
            let (sender, receiver) = mpsc::channel();
            let interrupting = thread::spawn(move || {
                sender.send(()).unwrap();
                while handle.interrupt() {}
            });
            receiver.recv().unwrap();
            Ok(interrupting)
        });
        result.unwrap().join().unwrap();
    }
    assert_eq!(pool.transactions("group", "commit"), 200.0);
}

/// An R-Tree keeps a BLOB handle active in a transaction, and with it SQLite an interrupt.
#[test]
fn an_interrupt_while_nothing_ran_is_nobody_elses_beside_an_r_tree() {
    let pool = pool();
    pool.write()
        .unwrap()
        .execute_batch("CREATE VIRTUAL TABLE box USING rtree (id, x1, x2)")
        .unwrap();
    let gathered = Gathered::on(&pool);
    let plain = |title: &'static str| gathered.caller(writes(title));
    let first = plain("a");
    let interrupts = gathered.caller(|tx| {
        tx.execute("INSERT INTO box VALUES (1, 0, 1)", [])?;
        tx.execute("INSERT INTO box VALUES (2, 0, 1)", [])?;
        tx.interrupt_handle().interrupt();
        Ok("b")
    });
    let last = plain("c");
    gathered.go();
    for caller in [first, interrupts, last] {
        caller.join().unwrap().unwrap();
    }
    assert_eq!(titles(&pool), "a c");
    let result = pool.group_commit(|tx| {
        tx.execute("INSERT INTO box VALUES (3, 0, 1)", [])?;
        tx.interrupt_handle().interrupt();
        Err::<(), _>(tenure::Error::other("undone"))
    });
    assert_eq!(result.unwrap_err().to_string(), "undone");
    assert_eq!(pool.repairs("unfinished_statement") + pool.repairs("discarded"), 0.0);
}
