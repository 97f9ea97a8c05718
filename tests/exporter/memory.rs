//! Bytes of memory do not grow with samples where nobody scrapes.

// To count what is allocated.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tenure::Pool;

use crate::alone;

/// Counts what is allocated and not freed.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(live, Ordering::Relaxed);
        // SAFETY: promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn the_exporter_is_looked_after_while_nobody_scrapes() {
    const SAMPLES: usize = 500_000;
    let _alone = alone();
    let histogram = metrics::histogram!("tenure_checkout_wait_seconds", "pool" => "upkeep");
    let before = LIVE.load(Ordering::Relaxed);
    for round in 0..3 {
        histogram.record_many(0.001, SAMPLES);
        let began = Instant::now();
        // What was taken out is freed as others come.
        while LIVE.load(Ordering::Relaxed) > before + SAMPLES * 4 {
            histogram.record(0.001);
            assert!(began.elapsed() < Duration::from_secs(60), "round {round}: they pile up");
            thread::yield_now();
        }
    }
}

/// `TENURE_CHECKOUTS` has another number of them.
#[test]
fn samples_do_not_pile_up_while_nobody_scrapes() {
    let _alone = alone();
    let checkouts = std::env::var("TENURE_CHECKOUTS");
    let checkouts: usize = checkouts.map_or(2_000_000, |number| number.parse().unwrap());
    // The worst that can be set: every hold is a sample.
    let builder = Pool::builder().name("memory").readers(2).hold_sampling(1);
    let pool = tenure::testing::temporary_with(builder).unwrap();
    drop(pool.read().unwrap());
    let before = LIVE.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let mut tenths = Vec::new();
    for tenth in 1..=10 {
        for _ in 0..checkouts / 10 {
            drop(pool.read().unwrap());
        }
        tenths.push(format!(
            "{tenth}: {}",
            LIVE.load(Ordering::Relaxed).saturating_sub(before) >> 10
        ));
    }
    let most = MOST.load(Ordering::Relaxed) - before;
    println!(
        "{checkouts} checkouts, each a sample: at most {} KiB more than before; after each tenth in \
         KiB: {}",
        most >> 10,
        tenths.join(", ")
    );
    // Two seconds of samples, and twice as much for what is being put in order.
    assert!(most < 12 << 20, "{most} bytes for {checkouts} samples");
}
