//! A holder can say what it holds a connection for, and whoever reads of the holder reads that too.

use std::mem;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tenure::checkout::Builder as AnyBuilder;
use tenure::{Pool, testing};

use crate::logged::warnings_of_all_threads;
use crate::until::{LONG, until};

const SHORT: Duration = Duration::from_millis(1);

/// As it is written in texts.
const IN_TEXT: &str = "` (\"import of orders\") ";

fn write_label(pool: &Pool) -> Option<String> {
    let write = pool.status().write.unwrap();
    let [holder] = &write.held[..] else { panic!("{write:?}") };
    holder.label.clone()
}

fn one_writer() -> Pool {
    testing::temporary_with(Pool::builder().readers(1)).unwrap()
}

#[test]
fn in_the_status() {
    let pool = one_writer();
    let (reader, writer) = (pool.read().unwrap(), pool.write().unwrap());
    assert_eq!(write_label(&pool), None);
    writer.set_label("import of orders");
    assert_eq!(write_label(&pool).as_deref(), Some("import of orders"));
    let status = pool.status();
    assert_eq!(status.read.held[0].label, None, "the other holder has none");
    assert_eq!(status.to_string().matches(IN_TEXT).count(), 1, "{status}");
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["write"]["held"][0]["label"], "import of orders");
    assert!(json["read"]["held"][0]["label"].is_null());
    reader.set_label(String::from("report"));
    assert_eq!(pool.status().read.held[0].label.as_deref(), Some("report"));
    writer.set_label("import of customers");
    assert_eq!(write_label(&pool).as_deref(), Some("import of customers"), "the later one");
    writer.set_label("");
    assert_eq!(write_label(&pool), None, "taken away");
}

#[test]
fn in_the_errors_of_those_who_wait_or_close_the_pool() {
    let pool = &one_writer();
    let writer = pool.write().unwrap();
    writer.set_label("import of orders");
    let of_another_thread = |timeout| {
        let ask = move || pool.write_timeout(timeout).unwrap_err();
        thread::scope(|scope| scope.spawn(ask).join().unwrap())
    };
    for error in [pool.try_write().unwrap_err(), of_another_thread(SHORT)] {
        assert!(error.to_string().contains(IN_TEXT), "{error}");
        assert_eq!(error.longest_holder().unwrap().label.as_deref(), Some("import of orders"));
    }
    let error = pool.write_timeout(LONG).unwrap_err();
    assert!(error.to_string().contains(IN_TEXT), "{error}");
    assert_eq!(error.holders()[0].label.as_deref(), Some("import of orders"));
    let error = pool.close(Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains(IN_TEXT), "{error}");
}

#[test]
fn in_the_log_of_long_holds_and_of_leaks() {
    warnings_of_all_threads();
    let builder = Pool::builder().readers(1).name("labelled").long_held_after(SHORT);
    let pool = testing::temporary_with(builder).unwrap();
    let _reader = pool.read().unwrap();
    let leaking = pool.clone();
    let forgets = move || {
        let writer = leaking.write_owned().unwrap();
        writer.set_label("import of orders");
        mem::forget(writer);
    };
    thread::spawn(forgets).join().unwrap();
    let said = |what: &str| {
        let all = warnings_of_all_threads().into_iter();
        let mut said = all.filter(|entry| entry.field("pool") == "labelled");
        said.find(|entry| entry.field("role") == "write" && entry.message().contains(what))
    };
    for what in ["held for longer", "a guard was leaked"] {
        until("it is said", || said(what).is_some());
        assert_eq!(said(what).unwrap().field("label"), "import of orders");
    }
    until("it is replaced", || pool.status().write.unwrap().idle == 1);
    let _writer = pool.write().unwrap();
    assert_eq!(write_label(&pool), None);
    let all = warnings_of_all_threads().into_iter();
    let mut of_the_reader =
        all.filter(|entry| entry.field("pool") == "labelled" && entry.field("role") == "read");
    assert!(of_the_reader.all(|entry| !entry.fields.contains_key("label")), "it has none");
}

#[test]
fn never_on_the_next_holder() {
    let pool = &one_writer();
    let writer = pool.write().unwrap();
    writer.set_label("import of orders");
    drop(writer);
    let writer = pool.write().unwrap();
    assert_eq!(write_label(pool), None, "of the same thread");
    writer.set_label("import of orders");
    thread::scope(|scope| {
        let (go_on, end) = mpsc::channel::<()>();
        let next = scope.spawn(move || {
            let _writer = pool.write_timeout(LONG).unwrap();
            let label = write_label(pool);
            end.recv().unwrap();
            label
        });
        until("it waits", || !pool.status().write.unwrap().waiting.is_empty());
        drop(writer);
        go_on.send(()).unwrap();
        assert_eq!(next.join().unwrap(), None, "to which it was handed over");
    });
}

#[test]
fn along_with_a_connection_that_goes_to_another_thread() {
    let pool = one_writer();
    let writer = pool.write().unwrap();
    writer.set_label("import of orders");
    let detached = writer.detach();
    assert_eq!(write_label(&pool).as_deref(), Some("import of orders"), "on its way");
    let elsewhere = pool.clone();
    let work = move || {
        let writer = detached.attach();
        assert_eq!(write_label(&elsewhere).as_deref(), Some("import of orders"), "arrived");
        let writer = writer.detach().attach();
        assert_eq!(write_label(&elsewhere).as_deref(), Some("import of orders"), "and again");
        drop(writer);
    };
    thread::spawn(work).join().unwrap();
    let writer = pool.write().unwrap().detach().attach();
    assert_eq!(write_label(&pool), None, "the next one that is attached has none");
    drop(writer);
}

#[test]
fn of_bounded_length_and_on_one_line() {
    let pool = one_writer();
    let writer = pool.write().unwrap();
    writer.set_label("x".repeat(1000));
    assert_eq!(write_label(&pool).unwrap(), "x".repeat(80));
    // Between characters: 79 bytes, for the 27th would end at the 81st.
    writer.set_label(format!("a{}", "\u{20ac}".repeat(27)));
    assert_eq!(write_label(&pool).unwrap(), format!("a{}", "\u{20ac}".repeat(26)));
    writer.set_label("one\ntwo");
    assert!(pool.status().to_string().contains(r#"("one\ntwo")"#), "{}", pool.status());
}

#[test]
fn in_the_pool_for_any_manager() {
    struct Nothing;
    impl r2d2::ManageConnection for Nothing {
        type Connection = ();
        type Error = std::io::Error;

        fn connect(&self) -> std::io::Result<()> {
            Ok(())
        }

        fn is_valid(&self, (): &mut ()) -> std::io::Result<()> {
            Ok(())
        }

        fn has_broken(&self, (): &mut ()) -> bool {
            false
        }
    }
    let pool = AnyBuilder::default().limit(1).build(Nothing).unwrap();
    let guard = pool.get().unwrap();
    guard.set_label("import of orders");
    assert_eq!(pool.status().held[0].label.as_deref(), Some("import of orders"));
    let error = pool.close(Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains(IN_TEXT), "{error}");
}
