//! What runs or is dropped on another caller's thread concerns that caller in no way.

use std::panic::resume_unwind;
use std::sync::mpsc;
use std::thread;

use tenure::{Error, Savepoint};

use super::{
    Gathered, batches, ended, insert, is_aborted, panic, panics_with, pool, titles, writes,
};
use crate::until::{LONG, until};

struct PanicsWhenDropped(&'static str);

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if !thread::panicking() {
            resume_unwind(Box::new(self.0));
        }
    }
}

#[test]
fn hooks_run_in_order_after_commit_with_the_writer_free() {
    let pool = pool();
    let (sender, receiver) = mpsc::channel();
    let gathered = Gathered::on(&pool);
    let callers = ["a", "b"].map(|title| {
        let (own, sender) = (pool.pool.clone(), sender.clone());
        gathered.caller(move |tx| {
            insert(tx, title)?;
            for number in 1..=2 {
                let (own, sender) = (own.clone(), sender.clone());
                tx.on_commit(move || {
                    let seen = titles(&own);
                    own.transaction(|tx| Ok(insert(tx, &format!("{title}{number}"))?)).unwrap();
                    own.group_commit(move |tx| Ok(insert(tx, &format!("{title}-{number}"))?))
                        .unwrap();
                    sender.send((title, number, seen)).unwrap();
                });
            }
            let undone = tx.savepoint()?;
            undone.on_commit(|| unreachable!("its savepoint was rolled back"));
            Ok(())
        })
    });
    gathered.go();
    callers.into_iter().for_each(|caller| caller.join().unwrap().unwrap());
    let told: Vec<_> = receiver.try_iter().collect();
    assert_eq!(told[0], ("a", 1, "a b".to_owned()), "both are in the file");
    let order: Vec<_> = told.iter().map(|(title, number, _)| (*title, *number)).collect();
    assert_eq!(order, [("a", 1), ("a", 2), ("b", 1), ("b", 2)]);
}

#[test]
fn who_has_no_hooks_does_not_wait_for_those_of_others() {
    let pool = pool();
    let gathered = Gathered::on(&pool);
    let (go_on, told) = mpsc::channel::<()>();
    let slow = gathered.caller(move |tx| {
        tx.on_commit(move || told.recv_timeout(LONG).unwrap());
        Ok(insert(tx, "slow")?)
    });
    let fails = gathered.caller(|_| Err::<(), _>(Error::other("no")));
    let quick = gathered.caller(writes("quick"));
    gathered.go();
    quick.join().unwrap().unwrap();
    fails.join().unwrap().unwrap_err();
    assert!(!slow.is_finished());
    pool.group_commit(writes("next")).unwrap();
    go_on.send(()).unwrap();
    slow.join().unwrap().unwrap();
    assert_eq!(titles(&pool), "slow quick next");
}

#[test]
fn a_hook_that_panics_does_so_in_its_caller_and_the_commit_stands() {
    let pool = pool();
    let gathered = Gathered::on(&pool);
    let leader = gathered.caller(writes("a"));
    let (sender, receiver) = mpsc::channel();
    let panicking = gathered.caller(move |tx| {
        insert(tx, "b")?;
        tx.on_commit(|| panic("hook"));
        tx.on_commit(move || sender.send("ran").unwrap());
        Ok(())
    });
    let after = gathered.caller(writes("c"));
    gathered.go();
    leader.join().unwrap().unwrap();
    assert_eq!(panics_with(panicking.join()), "hook");
    after.join().unwrap().unwrap();
    assert_eq!(receiver.recv(), Ok("ran"));
    assert_eq!((titles(&pool).as_str(), ended(&pool, "commit")), ("a b c", 3.0));
}

#[test]
fn hooks_of_what_is_undone_never_run() {
    let never = |tx: &mut Savepoint<'_>| tx.on_commit(|| unreachable!("nothing was committed"));
    let pool = pool();
    let gathered = Gathered::on(&pool);
    let first = gathered.caller(move |tx| {
        never(tx);
        Ok(insert(tx, "first")?)
    });
    let fails = gathered.caller(move |tx| {
        never(tx);
        Err::<(), _>(Error::other("no"))
    });
    let panics = gathered.caller(move |tx| -> Result<(), Error> {
        never(tx);
        panic("oh")
    });
    let aborted = gathered.caller(move |tx| {
        never(tx);
        Ok(insert(tx, "a")?)
    });
    let culprit = gathered.caller(move |tx| {
        never(tx);
        insert(tx, "b")?;
        Ok(tx.execute("INSERT OR ROLLBACK INTO task VALUES ('b')", [])?)
    });
    gathered.go();
    assert!(is_aborted(&first.join().unwrap()));
    assert!(is_aborted(&fails.join().unwrap()));
    assert_eq!(panics_with(panics.join()), "oh");
    assert!(is_aborted(&aborted.join().unwrap()));
    culprit.join().unwrap().unwrap_err();
    assert_eq!(titles(&pool), "");
}

/// Three kinds of values, and who drops them: the closure, the rollback, the end of the batch.
#[test]
fn values_that_panic_when_they_are_dropped_hurt_their_own_caller_only() {
    let pool = pool();
    let gathered = Gathered::on(&pool);
    let leader = gathered.caller(writes("a"));
    let captured = PanicsWhenDropped("captured");
    let closure = gathered.caller(move |tx| {
        let _captured = &captured;
        Ok(insert(tx, "undone")?)
    });
    let undone_hook = gathered.caller(|tx| {
        insert(tx, "undone")?;
        let owned = PanicsWhenDropped("hook");
        tx.on_commit(move || drop(owned));
        Err::<(), _>(Error::other("no"))
    });
    let hook = gathered.caller(|tx| {
        let owned = PanicsWhenDropped("hook that ran");
        tx.on_commit(move || drop(owned));
        Ok(insert(tx, "b")?)
    });
    let result = gathered.caller(|tx| {
        insert(tx, "c")?;
        Ok(PanicsWhenDropped("result"))
    });
    let after = gathered.caller(writes("d"));
    gathered.go();
    leader.join().unwrap().unwrap();
    assert_eq!(panics_with(closure.join()), "captured");
    assert_eq!(panics_with(undone_hook.join()), "hook");
    assert_eq!(panics_with(hook.join()), "hook that ran");
    std::mem::forget(result.join().unwrap().unwrap());
    after.join().unwrap().unwrap();
    assert_eq!((titles(&pool).as_str(), batches(&pool)), ("a b c d", (1.0, 6.0)));
}

#[test]
fn values_that_panic_when_their_batch_is_aborted_hurt_their_own_caller_only() {
    #[derive(Debug)]
    struct Fails(#[expect(dead_code, reason = "it is dropped")] Option<PanicsWhenDroppedToo>);
    #[derive(Debug)]
    struct PanicsWhenDroppedToo;
    impl Drop for PanicsWhenDroppedToo {
        fn drop(&mut self) {
            resume_unwind(Box::new("error"));
        }
    }
    impl From<Error> for Fails {
        fn from(_: Error) -> Self {
            Self(None)
        }
    }
    let pool = pool();
    let gathered = Gathered::on(&pool);
    let leader = gathered.caller(writes("a"));
    let result = gathered.caller(|tx| {
        insert(tx, "b")?;
        Ok(PanicsWhenDropped("result"))
    });
    let hook = gathered.caller(|tx| {
        let owned = PanicsWhenDropped("hook");
        tx.on_commit(move || drop(owned));
        Ok(insert(tx, "c")?)
    });
    let own = pool.pool.clone();
    let error = thread::spawn(move || {
        own.group_commit_with_error(|_| Err::<(), _>(Fails(Some(PanicsWhenDroppedToo))))
    });
    until("it is in", || pool.status().group_commit.callers == 4);
    let culprit = gathered.caller(|tx| {
        let owned = PanicsWhenDropped("culprit's hook");
        tx.on_commit(move || drop(owned));
        insert(tx, "d")?;
        Ok(tx.execute("INSERT OR ROLLBACK INTO task VALUES ('d')", [])?)
    });
    let after = gathered.caller(writes("after"));
    gathered.go();
    assert!(is_aborted(&leader.join().unwrap()));
    assert_eq!(panics_with(result.join()), "result");
    assert_eq!(panics_with(hook.join()), "hook");
    assert_eq!(*error.join().unwrap_err().downcast::<&str>().unwrap(), "error");
    assert_eq!(panics_with(culprit.join()), "culprit's hook");
    after.join().unwrap().unwrap();
    assert_eq!((titles(&pool).as_str(), batches(&pool)), ("after", (2.0, 6.0)));
}

#[test]
fn a_conversion_of_the_error_that_panics_does_so_in_its_caller() {
    #[derive(Debug)]
    struct Panics;
    impl From<Error> for Panics {
        fn from(_: Error) -> Self {
            panic("conversion")
        }
    }
    let pool = pool();
    let gathered = Gathered::on(&pool);
    let leader = gathered.caller(writes("a"));
    let own = pool.pool.clone();
    let converts = thread::spawn(move || own.group_commit_with_error(|_| Ok::<_, Panics>(())));
    until("it is in", || pool.status().group_commit.callers == 2);
    let culprit = gathered.caller(|tx| {
        tx.execute_batch(
            "INSERT INTO task VALUES ('d'); INSERT OR ROLLBACK INTO task VALUES ('d')",
        )?;
        Ok(())
    });
    gathered.go();
    assert!(is_aborted(&leader.join().unwrap()));
    assert_eq!(*converts.join().unwrap_err().downcast::<&str>().unwrap(), "conversion");
    culprit.join().unwrap().unwrap_err();
    assert_eq!(titles(&pool), "");
}

/// What a panic carries can panic as well when it is dropped.
struct Carried(&'static str);

impl Drop for Carried {
    fn drop(&mut self) {
        drop(PanicsWhenDropped(self.0));
    }
}

#[test]
fn what_a_second_panic_carries_is_nobodys() {
    let pool = pool();
    let (sender, receiver) = mpsc::channel();
    let gathered = Gathered::on(&pool);
    let innocent = gathered.caller(writes("a"));
    let bad = gathered.caller(move |tx| {
        insert(tx, "b")?;
        tx.on_commit(|| panic("the first"));
        tx.on_commit(|| resume_unwind(Box::new(Carried("carried"))));
        tx.on_commit(move || sender.send(()).unwrap());
        Ok("b")
    });
    let last = gathered.caller(writes("c"));
    gathered.go();
    innocent.join().unwrap().unwrap();
    last.join().unwrap().unwrap();
    assert_eq!(panics_with(bad.join()), "the first");
    receiver.recv_timeout(LONG).unwrap();
    assert_eq!(titles(&pool), "a b c");
}
