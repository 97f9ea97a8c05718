//! One transaction for all who wait; each closure on its own in it.

use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use tenure::{Error, Pool, rusqlite};
use tracing_subscriber::Registry;

use super::{
    Gathered, Paused, batches, builder, caller, ended, insert, panic, panics_with, pool, titles,
    writes,
};
use crate::recorded::Recorded;
use crate::until::{LONG, until};

#[test]
fn who_wait_share_one_commit_in_order_of_arrival_and_each_gets_its_own_result() {
    let pool = pool();
    let gathered = Gathered::on(&pool);
    let callers = ["a", "b", "c", "d"].map(|title| gathered.caller(writes(title)));
    assert_eq!(pool.status().group_commit.callers, 4);
    gathered.go();
    let results = callers.map(|caller| caller.join().unwrap().unwrap());
    assert_eq!(results, ["a", "b", "c", "d"]);
    assert_eq!(titles(&pool), "a b c d");
    assert_eq!(batches(&pool), (1.0, 4.0));
    assert_eq!(pool.transactions("group", "commit"), 1.0);
    assert_eq!(ended(&pool, "commit"), 4.0);
    assert_eq!(pool.value("tenure_group_commit_wait_seconds_count", &[]), 1.0);
    until("they have returned", || pool.status().group_commit.callers == 0);
    assert_eq!(pool.checkouts("write", "waited"), 1.0, "one has waited for the writer, for all");
}

#[test]
fn who_comes_alone_runs_on_its_own_thread_and_waits_for_nobody() {
    let pool = pool();
    let me = thread::current().id();
    for _ in 0..3 {
        let ran_on = pool.group_commit(|_| Ok(thread::current().id())).unwrap();
        assert_eq!(ran_on, me);
    }
    assert_eq!(batches(&pool), (3.0, 3.0));
}

#[test]
fn a_closure_sees_those_before_it_and_nobody_else_sees_any_of_them_before_commit() {
    let pool = pool();
    let gathered = Gathered::on(&pool);
    let first = gathered.caller(writes("a"));
    let reader = pool.clone();
    let second = gathered.caller(move |tx| {
        let inside: i64 = tx.query_one("SELECT count(*) FROM task", [], |row| row.get(0))?;
        let outside = titles(&reader);
        assert!(!tx.is_autocommit());
        Ok((inside, outside))
    });
    gathered.go();
    first.join().unwrap().unwrap();
    assert_eq!(second.join().unwrap().unwrap(), (1, String::new()));
}

#[test]
fn nobody_is_answered_before_commit() {
    let pool = pool();
    let gathered = Gathered::on(&pool);
    let kept = gathered.caller(writes("a"));
    let failing = gathered.caller(|_| Err::<(), _>(Error::other("no")));
    let panicking = gathered.caller(|_| -> Result<(), Error> { panic("oh") });
    let ((running, runs), (go_on, told)) = (mpsc::channel(), mpsc::channel::<()>());
    let last = gathered.caller(move |_| {
        running.send(()).unwrap();
        told.recv_timeout(LONG).unwrap();
        Ok(())
    });
    gathered.go();
    runs.recv_timeout(LONG).unwrap();
    // Those before it have run, and there is nothing that an answer would still have to wait for.
    for _ in 0..1000 {
        thread::yield_now();
        assert!(!kept.is_finished() && !failing.is_finished() && !panicking.is_finished());
    }
    assert_eq!(pool.status().group_commit.callers, 4);
    go_on.send(()).unwrap();
    last.join().unwrap().unwrap();
    kept.join().unwrap().unwrap();
    failing.join().unwrap().unwrap_err();
    assert_eq!(panics_with(panicking.join()), "oh");
}

#[test]
fn an_error_and_a_panic_undo_their_own_closure_only() {
    let pool = pool();
    let gathered = Gathered::on(&pool);
    let before = gathered.caller(writes("a"));
    let twice = gathered.caller(|tx| {
        insert(tx, "undone")?;
        insert(tx, "a")?;
        Ok(())
    });
    let panicking = gathered.caller(|tx| -> Result<(), Error> {
        insert(tx, "undone")?;
        panic("oh")
    });
    let after = gathered.caller(writes("b"));
    gathered.go();
    before.join().unwrap().unwrap();
    let Err(Error::Sqlite(error)) = twice.join().unwrap() else { panic!("it has succeeded") };
    assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::ConstraintViolation));
    assert_eq!(panics_with(panicking.join()), "oh");
    after.join().unwrap().unwrap();
    assert_eq!(titles(&pool), "a b");
    assert_eq!(batches(&pool), (1.0, 4.0));
    let outcomes = ["commit", "rollback", "panic", "aborted", "error", "not_begun"];
    assert_eq!(outcomes.map(|outcome| ended(&pool, outcome)), [2.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn savepoints_nest_and_transaction_control_is_refused() {
    let pool = pool();
    for sql in ["COMMIT", "END", "ROLLBACK", "BEGIN", "/* so */ commit", "ROLLBACK; BEGIN"] {
        let result = pool.group_commit(move |tx| {
            insert(tx, "kept")?;
            let refused = tx.execute_batch(sql).unwrap_err();
            assert!(refused.to_string().contains("may not begin or end"), "{sql}: {refused}");
            let refused = tx.execute(sql, []).unwrap_err();
            assert_eq!(
                refused.sqlite_error_code(),
                Some(rusqlite::ErrorCode::AuthorizationForStatementDenied)
            );
            assert!(tx.prepare(sql).is_err());
            let mut inner = tx.savepoint()?;
            insert(&inner, "inner")?;
            let innermost = inner.savepoint()?;
            insert(&innermost, "undone")?;
            drop(innermost);
            inner.commit()?;
            tx.execute("DELETE FROM task WHERE title = 'inner'", [])?;
            tx.execute("UPDATE task SET title = ?1 WHERE title = 'kept'", [sql])?;
            Ok(())
        });
        result.unwrap();
    }
    let count = "SELECT count(*) FROM task";
    assert_eq!(pool.read().unwrap().query_one(count, [], |row| row.get::<_, i64>(0)).unwrap(), 6);
}

#[test]
fn the_number_in_a_batch_is_limited() {
    let pool = Recorded::with(builder().group_commit_max_size(3));
    let gathered = Gathered::on(&pool);
    let callers = ["a", "b", "c", "d", "e", "f", "g"].map(|title| gathered.caller(writes(title)));
    gathered.go();
    for caller in callers {
        caller.join().unwrap().unwrap();
    }
    assert_eq!(titles(&pool), "a b c d e f g");
    assert_eq!(batches(&pool), (3.0, 7.0));
}

#[test]
fn the_time_of_a_batch_is_limited() {
    let pool = Recorded::with(builder().group_commit_max_time(Duration::ZERO));
    let gathered = Gathered::on(&pool);
    let callers = ["a", "b", "c"].map(|title| gathered.caller(writes(title)));
    gathered.go();
    for caller in callers {
        caller.join().unwrap().unwrap();
    }
    assert_eq!(titles(&pool), "a b c");
    assert_eq!(batches(&pool), (3.0, 3.0));
}

#[test]
fn who_comes_while_a_batch_runs_is_taken_along() {
    let pool = pool();
    let first = Paused::begin(&pool, "a");
    let second = caller(&pool, writes("b"));
    first.end().unwrap();
    second.join().unwrap().unwrap();
    assert_eq!(batches(&pool), (1.0, 2.0));
}

#[test]
fn a_plain_writer_has_its_turn_between_two_batches() {
    let pool = Recorded::with(builder().group_commit_max_size(1).overtaking(Duration::ZERO));
    let first = Paused::begin(&pool, "a");
    let plain = pool.pool.clone();
    let plain = thread::spawn(move || plain.transaction(|tx| Ok(insert(tx, "plain")?)));
    until("the plain writer waits", || pool.status().write.unwrap().waiting.len() == 1);
    let others = ["b", "c", "d"].map(|title| caller(&pool, writes(title)));
    first.end().unwrap();
    plain.join().unwrap().unwrap();
    for other in others {
        other.join().unwrap().unwrap();
    }
    assert_eq!(titles(&pool), "a plain b c d");
}

#[test]
fn a_closure_runs_within_its_callers_span_and_so_do_its_hooks() {
    let pool = pool();
    let gathered = Gathered::on(&pool);
    let here = || tracing::Span::current().metadata().map(tracing::Metadata::name);
    let names = move |tx: &mut tenure::Savepoint<'_>| {
        let (sender, receiver) = mpsc::channel();
        tx.on_commit(move || sender.send(here()).unwrap());
        Ok((here(), receiver))
    };
    let dispatch = tracing::Dispatch::new(Registry::default());
    let callers: Vec<_> = (0..2)
        .map(|number| {
            let (pool, dispatch) = (pool.pool.clone(), dispatch.clone());
            let caller = thread::spawn(move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    let span = match number {
                        0 => tracing::info_span!("first"),
                        _ => tracing::info_span!("second"),
                    };
                    span.in_scope(|| pool.group_commit(names))
                })
            });
            until("it is in", || gathered.pool.status().group_commit.callers == number + 1);
            caller
        })
        .collect();
    gathered.go();
    let told: Vec<_> = callers
        .into_iter()
        .map(|caller| {
            let (closure, hook) = caller.join().unwrap().unwrap();
            (closure, hook.recv().unwrap())
        })
        .collect();
    assert_eq!(told, [(Some("first"), Some("first")), (Some("second"), Some("second"))]);
}

#[test]
fn an_error_type_of_the_callers_own() {
    #[derive(Debug)]
    enum Own {
        Ours,
        Theirs(Error),
    }
    impl From<Error> for Own {
        fn from(error: Error) -> Self {
            Self::Theirs(error)
        }
    }
    let pool = pool();
    let result = pool.group_commit_with_error(|_| Err::<(), _>(Own::Ours));
    assert!(matches!(result, Err(Own::Ours)));
    let result = pool.group_commit_with_error(|tx| {
        tx.rusqlite().execute_batch("ROLLBACK").unwrap();
        Ok::<_, Own>(())
    });
    assert!(matches!(result, Err(Own::Theirs(Error::Commit(_)))), "{result:?}");
    pool.close(LONG).unwrap();
    let result = pool.group_commit_with_error(|_| Ok::<_, Own>(()));
    assert!(matches!(result, Err(Own::Theirs(Error::Checkout(_)))), "{result:?}");
}

#[test]
fn many_callers_at_once_are_all_answered_once() {
    let pool = Pool::builder()
        .readers(1)
        .setup(|connection| Ok(connection.execute_batch("CREATE TABLE task (title UNIQUE)")?));
    let pool = Recorded::with(pool.synchronous(tenure::Synchronous::Off));
    let barrier = Arc::new(Barrier::new(8));
    let callers: Vec<_> = (0..8)
        .map(|number| {
            let (pool, barrier) = (pool.pool.clone(), barrier.clone());
            thread::spawn(move || {
                barrier.wait();
                for round in 0..200 {
                    let title = format!("{number}-{round}");
                    pool.group_commit(move |tx| Ok(insert(tx, &title)?)).unwrap();
                }
            })
        })
        .collect();
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    assert_eq!(ended(&pool, "commit"), 1600.0);
    assert_eq!(batches(&pool).1, 1600.0);
    assert_eq!(pool.transactions("group", "commit"), batches(&pool).0);
    let count = "SELECT count(*) FROM task";
    assert_eq!(
        pool.read().unwrap().query_one(count, [], |row| row.get::<_, i64>(0)).unwrap(),
        1600
    );
}
