//! A scrape of a large pool under load costs no checkout its turn. What it costs itself is printed,
//! beside what the same recorder costs to render without asking the pools.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tenure::Pool;

use crate::page::Page;
use crate::{EXPORTER, alone};

const POOL: &str = "scrape";
const CONNECTIONS: usize = 256;
const HELD: usize = 240;
const THREADS: usize = 4;
const SCRAPES: usize = 30;

#[test]
fn a_scrape_of_256_connections_under_load_keeps_no_checkout_waiting() {
    let _alone = alone();
    let builder = Pool::builder().name(POOL).readers(CONNECTIONS).hold_sampling(1);
    let pool = tenure::testing::temporary_with(builder).unwrap();
    // Every slot has been used, and most are in use.
    let all: Vec<_> = (0..CONNECTIONS).map(|_| pool.read_owned().unwrap().detach()).collect();
    let mut held = all;
    held.truncate(HELD);

    let stop = AtomicBool::new(false);
    let start = Barrier::new(THREADS + 1);
    let (mut scrapes, mut renders) = (Vec::new(), Vec::new());
    let checkouts: u64 = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (pool, stop, start) = (&pool, &stop, &start);
                scope.spawn(move || {
                    start.wait();
                    let mut checkouts = 0;
                    while !stop.load(Ordering::Relaxed) {
                        drop(pool.try_read().expect("sixteen are idle, for four threads"));
                        checkouts += 1;
                    }
                    checkouts
                })
            })
            .collect();
        start.wait();
        for _ in 0..SCRAPES {
            scrapes.push(timed(|| drop(EXPORTER.render())));
            renders.push(timed(|| drop(EXPORTER.handle().render())));
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let quiet: Vec<_> = (0..SCRAPES).map(|_| timed(|| drop(EXPORTER.render()))).collect();
    let bare: Vec<_> = (0..SCRAPES).map(|_| timed(|| drop(EXPORTER.handle().render()))).collect();

    let (scrape, render) = (median(scrapes), median(renders));
    println!(
        "{CONNECTIONS} connections, {checkouts} checkouts meanwhile: a scrape takes {scrape:?}, the \
         recorder alone {render:?}, ratio {:.2}",
        scrape.as_secs_f64() / render.as_secs_f64()
    );
    let (scrape, render) = (median(quiet), median(bare));
    println!(
        "without load: {scrape:?} and {render:?}, ratio {:.2}",
        scrape.as_secs_f64() / render.as_secs_f64()
    );
    // `try_read` never waits, so a scrape that kept one off would have failed it.
    let page = Page::of(&EXPORTER);
    let count = |outcome| {
        let labels = [("pool", POOL), ("role", "read"), ("outcome", outcome)];
        page.count("tenure_checkouts_total", &labels)
    };
    assert_eq!(count("immediate"), checkouts + CONNECTIONS as u64);
    assert_eq!((count("waited"), count("timeout"), count("unavailable")), (0, 0, 0));
    let used = [("pool", POOL), ("role", "read"), ("state", "used")];
    assert_eq!(page.count("tenure_connections", &used), HELD as u64);
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort_unstable();
    durations[durations.len() / 2]
}
