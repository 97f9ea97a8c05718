//! What a scrape shows, what it costs, and what becomes of the memory where nobody scrapes: with the
//! exporter of `tenure::prometheus` installed for the whole process.

mod load;
mod memory;
mod page;
mod scrape;

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use tenure::prometheus::{Exporter, InstallError, install};

/// One for the process; every test asks for it before it opens a pool.
static EXPORTER: LazyLock<Exporter> = LazyLock::new(|| install().unwrap());

/// What is measured here is the process's, so tests take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    LazyLock::force(&EXPORTER);
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_second_recorder_is_refused() {
    let _alone = alone();
    assert!(matches!(install(), Err(InstallError::RecorderExists)));
}

#[test]
fn all_open_pools_publish_before_the_page_is_rendered() {
    let _alone = alone();
    let open =
        |name: &str| tenure::testing::temporary_with(tenure::Pool::builder().name(name)).unwrap();
    let (one, other) = (open("one"), open("other"));
    for _ in 0..5 {
        drop((one.read().unwrap(), other.read().unwrap()));
    }
    drop(other.read().unwrap());
    let page = page::Page::of(&EXPORTER);
    for (pool, checkouts) in [("one", 5), ("other", 6)] {
        let labels = [("pool", pool), ("role", "read"), ("outcome", "immediate")];
        assert_eq!(page.count("tenure_checkouts_total", &labels), checkouts);
    }
}
