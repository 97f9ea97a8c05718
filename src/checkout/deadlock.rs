//! Threads that wait for each other's connections are told at once, not when a time-out ends.
//!
//! A thread that waits while it holds a connection may be what keeps another one waiting. Such
//! threads, of all pools of the process, are listed in one place, and each one looks there before it
//! goes to sleep. It would sleep in vain if every connection of its pool is held by a thread that is
//! listed and still in its queue, and the same is true for the pool which that thread waits for, and
//! so on. One connection that is idle, detached or being opened, or one holder that is doing
//! something else, can bring the turn of somebody, whose connections then bring the turns of others;
//! but not in a pool that was made smaller, where what comes back is closed while more are open than
//! the limit says. So those who may be served are struck out, until nobody is left who may be.
//! Deadlines are left out of account: that a wait would be in vain until one passes is what is said.
//!
//! **Every deadlock that a wait closes is found.** A holder that is not listed is awake, so the last one
//! of a circle to be listed finds it, and it is the one that is told. The others go on to wait, and are
//! served when it gives back what it has. One that a smaller limit closes, around threads that wait
//! already, is not: nobody is awake to be told, and their deadlines end it.
//!
//! **There is no false alarm.** A guard stays on its thread. So what a listed thread holds does not
//! change, except that a turn may be granted to it, and for that it leaves its queue first, under the
//! lock of that queue. When the search has seen all holders it therefore asks once more whether all
//! of them are still in their queues: if they are, there was a moment at which all that was seen was
//! true together. A note that is being written is progress of somebody.
//!
//! Nothing of this is done by a checkout that need not wait, nor by one of a thread that holds
//! nothing. A search by a thread of the pool's own every now and then lost: it would be late, and
//! would have to choose somebody to refuse who sleeps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::holders::{Held, Place};
use super::shared::Shared;
use super::source::Manage;
use super::threads;
use crate::error::{Claim, DeadlockedHolder};
use crate::fork::PerProcess;

/// By thread. Held for a search; the locks of queues and of the notes' thread handles are taken
/// under it, and it is taken under none.
static LISTED: PerProcess<Mutex<BTreeMap<u64, Listed>>> =
    PerProcess::new([const { Mutex::new(BTreeMap::new()) }; 8]);

/// A thread that waits while it holds something.
struct Listed {
    party: Arc<dyn Party>,
    /// Its number in the queue of that pool.
    waiter: u64,
    place: Place,
}

/// A pool of one role, whatever its connections are.
trait Party: Send + Sync {
    /// A connection of this pool that was asked for there.
    fn claim(&self, place: Place) -> Claim;

    /// The slots that somebody has in hand or that are idle, and how many of them can be given back
    /// without a turn for anybody: so many more than the limit are open.
    fn slots(&self) -> (Vec<usize>, usize);

    /// The number of the thread that holds the connection of this slot; `None` when none does, or it
    /// is changing.
    fn holder(&self, slot: usize) -> Option<u64>;

    fn held(&self, slot: usize) -> Option<Held>;

    /// Whether the waiter of that number is in the queue, and has not been granted a turn.
    fn is_waiting(&self, waiter: u64) -> bool;
}

impl<M: Manage> Party for Shared<M> {
    fn claim(&self, place: Place) -> Claim {
        Claim {
            pool: self.settings.log.pool().to_owned(),
            role: self.settings.role,
            place: place.to_string(),
        }
    }

    fn slots(&self) -> (Vec<usize>, usize) {
        self.dispatch.in_use()
    }

    fn holder(&self, slot: usize) -> Option<u64> {
        self.dispatch.note(slot).holder()
    }

    fn held(&self, slot: usize) -> Option<Held> {
        self.dispatch.note(slot).held()
    }

    fn is_waiting(&self, waiter: u64) -> bool {
        self.dispatch.is_waiting(waiter)
    }
}

/// The calling thread's wait, listed until this is dropped.
pub(super) struct Waiting {
    listed: bool,
}

impl Waiting {
    /// To be called by a waiter that has joined the queue, before it sleeps. `Err` = it would sleep in
    /// vain, and says who is in the way of whom.
    pub(super) fn begin<M: Manage>(
        pool: &Arc<Shared<M>>,
        waiter: u64,
        place: Place,
    ) -> Result<Self, Vec<DeadlockedHolder>> {
        if !threads::holds_any() {
            return Ok(Self { listed: false });
        }
        let thread = threads::number();
        let party: Arc<dyn Party> = Arc::clone(pool) as _;
        let mut all = LISTED.here().lock();
        all.insert(thread, Listed { party, waiter, place });
        match search(&all, thread) {
            None => Ok(Self { listed: true }),
            Some(holders) => {
                let listed = all.remove(&thread);
                // What ends with a pool must not end under the lock.
                drop(all);
                drop(listed);
                Err(holders)
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.listed {
            let listed = LISTED.here().lock().remove(&threads::number());
            drop(listed);
        }
    }
}

/// A pool that was looked at.
struct Seen<'l> {
    party: &'l dyn Party,
    /// The listed threads that hold its connections, once for each.
    holders: Vec<u64>,
    /// While so many do not come back, no turn comes.
    limit: usize,
}

impl Seen<'_> {
    fn is_kept_by(&self, threads: &BTreeSet<u64>) -> bool {
        self.holders.iter().filter(|holder| threads.contains(holder)).count() >= self.limit
    }
}

/// Everybody who holds a connection that the thread waits for, directly or not, if they all wait in
/// vain.
fn search(all: &BTreeMap<u64, Listed>, thread: u64) -> Option<Vec<DeadlockedHolder>> {
    let mut pools: Vec<Seen<'_>> = Vec::new();
    // Who has been met, and of these whose pool has still to be looked at.
    let mut met = BTreeSet::from([thread]);
    let mut unseen = vec![all.get(&thread)?];
    while let Some(Listed { party, .. }) = unseen.pop() {
        let party = &**party;
        if pools.iter().any(|known| std::ptr::addr_eq(known.party, party)) {
            continue;
        }
        let (slots, surplus) = party.slots();
        // So many more than the limit are closed when they come back.
        let limit = slots.len() - surplus;
        let holders = slots.into_iter().filter_map(|slot| party.holder(slot));
        let holders: Vec<u64> = holders.filter(|holder| all.contains_key(holder)).collect();
        if pools.is_empty() && holders.len() < limit {
            return None;
        }
        unseen.extend(holders.iter().filter(|holder| met.insert(**holder)).map(|one| &all[one]));
        pools.push(Seen { party, holders, limit });
    }
    // Who may get a turn may give back what others wait for.
    let mut in_vain = met;
    while let Some(served) = in_vain.iter().copied().find(|one| {
        let mut waited_for = pools.iter();
        let pool = waited_for.find(|pool| std::ptr::addr_eq(pool.party, &*all[one].party));
        !pool.is_some_and(|pool| pool.is_kept_by(&in_vain))
    }) {
        in_vain.remove(&served);
    }
    pools.retain(|pool| pool.is_kept_by(&in_vain));
    let waits = |thread| all.get(thread).is_some_and(|wait| wait.party.is_waiting(wait.waiter));
    let deadlock = in_vain.contains(&thread) && in_vain.iter().all(waits);
    deadlock.then(|| describe(all, &pools, &in_vain))
}

fn describe(
    all: &BTreeMap<u64, Listed>,
    pools: &[Seen<'_>],
    in_vain: &BTreeSet<u64>,
) -> Vec<DeadlockedHolder> {
    let mut holders = Vec::new();
    for Seen { party, .. } in pools {
        for Held { holder, .. } in party.slots().0.into_iter().filter_map(|slot| party.held(slot)) {
            if let Some(wait) =
                all.get(&holder.number()).filter(|_| in_vain.contains(&holder.number()))
            {
                holders.push(DeadlockedHolder {
                    thread: holder.thread_name(),
                    holds: party.claim(holder.place),
                    waits_for: wait.party.claim(wait.place),
                });
            }
        }
    }
    holders
}
