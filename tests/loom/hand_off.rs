//! The essentials, as few steps as they can be made of: a hand-off between two threads and between three.
//!
//! Of two threads there are 9 to 8387, all tried each time. Of three, `cargo test` tries those with up
//! to two preemptions, and with any `TENURE_LOOM`, as in `.ci/run`, all: 7 thousand to a million for each
//! model and each rule of overtaking. Two models are longer: calm ends while a thread waits for a while and
//! another for ever, or while a newcomer comes; of these all with up to two are tried, and as many more as
//! `TENURE_LOOM` says: with four, as in `.ci/run`, 23 to 202 thousand. What waits in them has a
//! mailbox of a single step: see `mailbox`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::Ask::{self, Impatiently, Patiently, Try};
use crate::{Connection, Depth, Model, OVERTAKING, explore, sync};

const TWO: Depth = Depth::All;
const THREE: Depth = Depth::UpToOrAll(2);
const LONGER: Depth = Depth::UpTo(2);

/// So many connections, all of them held by threads that will give them back.
fn all_held(limit: usize, overtaking: u64) -> Arc<Model> {
    let model = Model::new(limit, limit, 8, overtaking);
    for _ in 0..limit {
        assert!(model.dispatch.take().is_some());
    }
    model
}

fn keep(model: &Model, ask: Ask) {
    if model.ask(ask).is_some() {
        model.kept.fetch_add(1, Ordering::Relaxed);
    }
}

fn returns(model: &Model) {
    model.check_in(Connection(0));
}

fn returns_another(model: &Model) {
    model.check_in(Connection(1));
}

fn returns_both(model: &Model) {
    returns(model);
    returns_another(model);
}

fn breaks(model: &Model) {
    model.discard(Connection(0));
}

fn waits(model: &Model) {
    keep(model, Patiently);
}

fn waits_for_a_while(model: &Model) {
    keep(model, Impatiently);
}

fn waits_for_a_while_and_returns(model: &Model) {
    if let Some(connection) = model.ask(Impatiently) {
        model.check_in(connection);
    }
}

fn waits_and_returns(model: &Model) {
    let connection = model.ask(Patiently).expect("it waits until it is served");
    model.check_in(connection);
}

fn comes_and_returns(model: &Model) {
    if let Some(connection) = model.check_out(Impatiently) {
        model.check_in(connection);
    }
}

fn tries(model: &Model) {
    keep(model, Try);
}

fn tries_and_returns(model: &Model) {
    if let Some(connection) = model.check_out(Try) {
        model.check_in(connection);
    }
}

/// The first wait ends the calm, in vain; the second finds that it has ended.
fn waits_for_a_while_and_again(model: &Model) {
    match model.ask(Impatiently) {
        Some(connection) => model.check_in(connection),
        None => waits(model),
    }
}

fn calms_down(model: &Model) {
    model.dispatch.calm_down();
}

fn closes(model: &Model) {
    for (slot, _) in model.dispatch.close() {
        model.open.fetch_sub(1, Ordering::Relaxed);
        model.dispatch.vacate(slot);
    }
}

fn shrinks(model: &Model) {
    for (slot, _) in model.dispatch.resize(1).expect("it is open") {
        model.open.fetch_sub(1, Ordering::Relaxed);
        model.dispatch.vacate_surplus(slot);
    }
}

fn with_one_held(depth: Depth, threads: &[fn(&Model)]) {
    for overtaking in OVERTAKING {
        explore(depth, move || all_held(1, overtaking), threads, Model::check_all_is_back);
    }
}

fn with_two_held(depth: Depth, threads: &[fn(&Model)]) {
    for overtaking in OVERTAKING {
        explore(depth, move || all_held(2, overtaking), threads, Model::check_all_is_back);
    }
}

/// From calm, as a pool begins.
fn calmly(explored: impl FnOnce()) {
    sync::set_calm(true);
    explored();
    sync::set_calm(false);
}

#[test]
fn two_threads_in_all_interleavings() {
    two_threads();
    calmly(two_threads);
}

fn two_threads() {
    with_one_held(TWO, &[returns, waits_and_returns]);
    with_one_held(TWO, &[returns, waits_for_a_while_and_returns]);
    with_one_held(TWO, &[returns, comes_and_returns]);
    with_one_held(TWO, &[returns, tries_and_returns]);
    with_one_held(TWO, &[breaks, waits_and_returns]);
    with_one_held(TWO, &[breaks, waits_for_a_while_and_returns]);
    with_one_held(TWO, &[returns, waits_for_a_while_and_again]);
    with_one_held(TWO, &[returns, closes]);
    with_two_held(TWO, &[returns_both, shrinks]);
    with_two_held(TWO, &[returns_both, waits]);
}

#[test]
fn a_return_beside_a_wait_and_a_deadline() {
    with_one_held(THREE, &[returns, waits, waits_for_a_while_and_returns]);
}

#[test]
fn a_return_beside_a_wait_and_a_deadline_that_end_the_calm() {
    calmly(|| with_one_held(LONGER, &[returns, waits, waits_for_a_while_and_returns]));
}

#[test]
fn a_return_beside_two_deadlines_that_end_the_calm() {
    calmly(|| with_one_held(THREE, &[returns, waits_for_a_while, waits_for_a_while]));
}

#[test]
fn a_return_beside_a_wait_when_calm_returns() {
    calmly(|| with_one_held(THREE, &[returns, waits_for_a_while_and_again, calms_down]));
}

#[test]
fn a_return_beside_a_newcomer_and_two_waits() {
    calmly(|| with_one_held(LONGER, &[returns, comes_and_returns, waits_for_a_while_and_again]));
}

#[test]
fn a_return_beside_two_deadlines() {
    with_one_held(THREE, &[returns, waits_for_a_while, waits_for_a_while]);
}

#[test]
fn a_return_beside_a_wait_and_a_newcomer() {
    with_one_held(THREE, &[returns, waits, tries_and_returns]);
}

#[test]
fn two_returns_beside_a_wait() {
    with_two_held(THREE, &[returns, returns_another, waits]);
}

#[test]
fn a_fault_beside_a_wait_and_a_deadline() {
    with_one_held(THREE, &[breaks, waits, waits_for_a_while_and_returns]);
}

#[test]
fn a_return_beside_a_wait_and_the_end() {
    with_one_held(THREE, &[returns, waits, closes]);
}

#[test]
fn two_returns_beside_a_shrink() {
    // Nobody waits, so that there is one rule only.
    explore(
        THREE,
        || all_held(2, 0),
        &[returns, returns_another, shrinks],
        Model::check_all_is_back,
    );
}
