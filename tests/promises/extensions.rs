//! A value kept with a connection belongs to whoever holds the connection, and to nobody else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use tenure::{Pool, testing};

#[derive(Default)]
struct Uses(u64);

#[test]
fn a_value_stays_with_its_connection() {
    let pool = testing::temporary_with(Pool::builder().readers(2)).unwrap();
    let (first, second) = (pool.read().unwrap(), pool.read().unwrap());
    first.with_extension(|uses: &mut Uses| uses.0 += 1);
    assert_eq!(second.with_extension(|uses: &mut Uses| uses.0), 0, "the other has its own");
    drop(first);
    // The last one back is the next one out.
    assert_eq!(pool.read().unwrap().with_extension(|uses: &mut Uses| uses.0), 1);
}

#[test]
fn no_lock_is_needed_and_no_update_is_lost() {
    let pool = testing::temporary_with(Pool::builder().readers(3)).unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    pool.read().unwrap().with_extension(|uses: &mut Uses| uses.0 += 1);
                }
            });
        }
    });
    let guards: Vec<_> = (0..3).map(|_| pool.read().unwrap()).collect();
    let all: u64 = guards.iter().map(|g| g.with_extension(|uses: &mut Uses| uses.0)).sum();
    assert_eq!(all, 1_600);
}

#[test]
fn types_do_not_meet() {
    let pool = testing::temporary().unwrap();
    let writer = pool.write().unwrap();
    let both = writer.with_extension_or(
        || String::from("a"),
        |text| {
            writer.with_extension(|uses: &mut Uses| {
                uses.0 += 1;
                format!("{text}{}", uses.0)
            })
        },
    );
    assert_eq!(both, "a1");
}

#[test]
fn asking_for_a_value_in_use_panics_and_costs_the_value_only() {
    let pool = testing::temporary().unwrap();
    let writer = pool.write().unwrap();
    writer.with_extension(|uses: &mut Uses| uses.0 = 5);
    let nested = AssertUnwindSafe(|| {
        writer.with_extension(|_: &mut Uses| writer.with_extension(|uses: &mut Uses| uses.0))
    });
    let panic = catch_unwind(nested).unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("in use further up the stack"), "{text}");
    assert_eq!(writer.with_extension(|uses: &mut Uses| uses.0), 0, "it starts anew");
}
