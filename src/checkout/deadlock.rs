//! Threads that wait for each other's connections are told at once, not when a time-out ends.
//!
//! A thread that waits while it holds a connection may be what keeps another one waiting. Such
//! threads, of all pools of the process, are listed in one place, and each one looks there before it
//! goes to sleep. It would sleep in vain if every connection of its pool is held by a thread that is
//! listed, still in its queue, and sleeps in vain itself. One connection that is idle, detached or being
//! opened, or one holder that is doing something else, anywhere on the way, can bring the turn of
//! somebody, and then there is none. Deadlines are left out of account: that a wait would be in vain
//! until one passes is what is said.
//!
//! **Every deadlock is found.** To join a queue and to be listed is one step, and a holder that is not
//! listed is awake. So the last one of a circle to join finds it, and it is the one that is told. The
//! others go on to wait, and are served when it gives back what it has. One thing else can close a
//! circle, of threads that all sleep: a limit that becomes less, so that what those who are awake give
//! back is closed and serves nobody. So whoever changes a limit looks as well, and tells the one of the
//! circle that came last, and another one as long as what is given back by those who were told would
//! not be enough.
//!
//! Nothing else can: a connection that is closed for a fault leaves room for another, whoever waits
//! longest is asked to open it, and is awake as long as he tries; what is detached counts as awake, and
//! who attaches it is. A guard that was leaked counts as that of a thread that is awake, until the
//! thread has ended and the guard is given up, which leaves room. (So a guard that a living thread has
//! leaked can keep others waiting until their deadline.)
//!
//! **There is no false alarm.** A guard stays on its thread. So what a listed thread holds does not
//! change, except that a turn may be granted to it, and for that it leaves its queue first, under the
//! lock of that queue. When the search has seen all holders it therefore asks once more whether all
//! of them are still in their queues: if they are, there was a moment at which all that was seen was
//! true together. A note that is being written is progress of somebody. No limit changes meanwhile.
//!
//! Nothing of this is done by a checkout that finds a connection idle while nobody waits, nor by one of a
//! thread that holds nothing. A search by a thread of the pool's own every now and then lost: it would be
//! late, and would have to choose somebody to refuse who sleeps, without need.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::dispatch::Answer;
use super::holders::{Asker, Held, Place};
use super::shared::{Lent, Shared};
use super::source::Manage;
use super::threads;
use crate::error::{Claim, DeadlockedHolder};
use crate::fork::PerProcess;

/// Held for a search and for a change of a limit; the locks of queues, of labels and of the notes'
/// thread handles are taken under it.
static LISTED: PerProcess<Mutex<List>> =
    PerProcess::new([const { Mutex::new(List { arrivals: 0, threads: BTreeMap::new() }) }; 8]);

struct List {
    arrivals: u64,
    /// By number.
    threads: BTreeMap<u64, Listed>,
}

/// A thread that waits while it holds something.
struct Listed {
    party: Arc<dyn Party>,
    /// Its number in the queue of that pool.
    waiter: u64,
    place: Place,
    /// Rises with every one that is listed.
    arrival: u64,
    /// Set when it was told that it waits in vain: it is awake, or about to be.
    refused: Option<Vec<DeadlockedHolder>>,
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

    /// Who holds the connection of this slot, and what it is called.
    fn held(&self, slot: usize) -> Option<(Held, Option<String>)>;

    /// Whether the waiter of that number is in the queue, and has not been granted a turn.
    fn is_waiting(&self, waiter: u64) -> bool;

    /// Ends the wait of that waiter; `false` = it has ended already.
    fn refuse(&self, waiter: u64) -> bool;
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

    fn held(&self, slot: usize) -> Option<(Held, Option<String>)> {
        let held = self.dispatch.note(slot).held()?;
        let label = self.labels.of(slot, held.version);
        Some((held, label))
    }

    fn is_waiting(&self, waiter: u64) -> bool {
        self.dispatch.is_waiting(waiter)
    }

    fn refuse(&self, waiter: u64) -> bool {
        self.dispatch.refuse(waiter)
    }
}

/// A wait, or who is in the way of whom where it would be in vain.
pub(super) type Outlook = Result<Waiting, Vec<DeadlockedHolder>>;

/// The calling thread's wait, listed until this is dropped.
pub(super) struct Waiting {
    listed: bool,
}

impl Waiting {
    /// Has the calling thread ask for a connection of this pool and, if it has to wait for one, lists
    /// it. For one that holds something the two are one step, so that none sleeps or is about to while
    /// another searches and does not find it.
    pub(super) fn ask<M: Manage>(
        pool: &Arc<Shared<M>>,
        asker: Option<Asker>,
        now: u64,
    ) -> (Answer<Box<Lent<M>>>, Outlook) {
        let Some(place) = asker.as_ref().map(|asker| asker.place).filter(|_| threads::holds_any())
        else {
            return (pool.dispatch.ask(asker, now), Ok(Self { listed: false }));
        };
        let mut list = LISTED.here().lock();
        let answer = pool.dispatch.ask(asker, now);
        let Answer::Wait(waiter) = &answer else {
            return (answer, Ok(Self { listed: false }));
        };
        let thread = threads::number();
        let party: Arc<dyn Party> = Arc::clone(pool) as _;
        list.arrivals += 1;
        let arrival = list.arrivals;
        let waits = Listed { party, waiter: waiter.number, place, arrival, refused: None };
        list.threads.insert(thread, waits);
        let search = Search::new(&list.threads);
        if !search.in_vain.contains(&thread) {
            return (answer, Ok(Self { listed: true }));
        }
        let holders = search.describe(&search.in_the_way_of(thread));
        let listed = list.threads.remove(&thread);
        // What ends with a pool must not end under the lock.
        drop(list);
        drop(listed);
        (answer, Err(holders))
    }

    /// The wait is over. If it was ended because it was in vain: who is in the way of whom.
    pub(super) fn end(mut self) -> Vec<DeadlockedHolder> {
        self.unlist().and_then(|listed| listed.refused).unwrap_or_default()
    }

    fn unlist(&mut self) -> Option<Listed> {
        let listed = std::mem::take(&mut self.listed);
        if listed { LISTED.here().lock().threads.remove(&threads::number()) } else { None }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.unlist();
    }
}

/// Changes a limit, and tells those of the sleeping who have to give way now.
pub(super) fn look_again<T>(change: impl FnOnce() -> T) -> T {
    let mut list = LISTED.here().lock();
    let changed = change();
    let arrivals = list.threads.iter().map(|(thread, listed)| (listed.arrival, *thread));
    let mut threads: Vec<_> = arrivals.collect();
    threads.sort_unstable();
    for (_, thread) in threads.into_iter().rev() {
        let search = Search::new(&list.threads);
        if search.in_vain.is_empty() {
            break;
        }
        let pools = search.in_the_way_of(thread);
        // One that only stands behind a circle is served when that is broken.
        if !search.in_vain.contains(&thread) || !pools.iter().any(|pool| pool.is_held_by(thread)) {
            continue;
        }
        let holders = search.describe(&pools);
        if let Some(listed) = list.threads.get_mut(&thread)
            && listed.party.refuse(listed.waiter)
        {
            listed.refused = Some(holders);
        }
    }
    changed
}

/// A pool that somebody waits for.
struct Seen<'l> {
    party: &'l dyn Party,
    /// Of each slot that is not empty: the thread that holds its connection, if one does.
    slots: Vec<(usize, Option<u64>)>,
    surplus: usize,
}

impl Seen<'_> {
    fn is(&self, party: &dyn Party) -> bool {
        std::ptr::addr_eq(self.party, party)
    }

    fn is_held_by(&self, thread: u64) -> bool {
        self.slots.iter().any(|(_, holder)| *holder == Some(thread))
    }

    /// Whether a turn will come for somebody if these threads do nothing any more.
    fn goes_on_without(&self, threads: &BTreeSet<u64>) -> bool {
        let stuck = |holder: &Option<u64>| holder.is_some_and(|thread| threads.contains(&thread));
        let others = self.slots.iter().filter(|(_, holder)| !stuck(holder)).count();
        // So many are closed when they come back.
        others > self.surplus
    }
}

/// Who waits in vain, of all who are listed.
struct Search<'l> {
    list: &'l BTreeMap<u64, Listed>,
    pools: Vec<Seen<'l>>,
    in_vain: BTreeSet<u64>,
}

impl<'l> Search<'l> {
    /// At first all are suspected; whoever can still be served is not, and so on.
    fn new(list: &'l BTreeMap<u64, Listed>) -> Self {
        let mut pools: Vec<Seen<'_>> = Vec::new();
        for Listed { party, .. } in list.values() {
            if !pools.iter().any(|pool| pool.is(&**party)) {
                let (slots, surplus) = party.slots();
                let slots = slots.into_iter().map(|slot| (slot, party.holder(slot))).collect();
                pools.push(Seen { party: &**party, slots, surplus });
            }
        }
        let waiting = list.iter().filter(|(_, listed)| listed.refused.is_none());
        let in_vain = waiting.map(|(thread, _)| *thread).collect();
        let mut search = Self { list, pools, in_vain };
        loop {
            search.leave_out_who_can_be_served();
            let before = search.in_vain.len();
            let waits = |listed: &Listed| listed.party.is_waiting(listed.waiter);
            search.in_vain.retain(|thread| list.get(thread).is_some_and(waits));
            if search.in_vain.len() == before {
                return search;
            }
        }
    }

    fn leave_out_who_can_be_served(&mut self) {
        let mut before = usize::MAX;
        while self.in_vain.len() < before {
            before = self.in_vain.len();
            for pool in &self.pools {
                if pool.goes_on_without(&self.in_vain) {
                    self.in_vain.retain(|thread| !pool.is(&*self.list[thread].party));
                }
            }
        }
    }

    /// The pools that a turn for this thread would have to come from: the one that it waits for, and
    /// those that the holders there wait for.
    fn in_the_way_of(&self, thread: u64) -> Vec<&Seen<'l>> {
        let pool_of = |thread| {
            let party = &*self.list.get(&thread)?.party;
            self.pools.iter().find(|pool| pool.is(party))
        };
        let mut pools: Vec<_> = pool_of(thread).into_iter().collect();
        let mut next = 0;
        while let Some(pool) = pools.get(next) {
            next += 1;
            let holders = pool.slots.iter().filter_map(|(_, holder)| *holder);
            for other in holders.filter(|thread| self.in_vain.contains(thread)).filter_map(pool_of)
            {
                if !pools.iter().any(|known| known.is(other.party)) {
                    pools.push(other);
                }
            }
        }
        pools
    }

    /// What those who wait in vain hold of these pools.
    fn describe(&self, pools: &[&Seen<'l>]) -> Vec<DeadlockedHolder> {
        let mut holders = Vec::new();
        for Seen { party, slots, .. } in pools {
            for (slot, _) in slots {
                let Some((Held { holder, .. }, label)) = party.held(*slot) else { continue };
                if !self.in_vain.contains(&holder.number()) {
                    continue;
                }
                if let Some(wait) = self.list.get(&holder.number()) {
                    holders.push(DeadlockedHolder {
                        thread: holder.thread_name(),
                        label,
                        holds: party.claim(holder.place),
                        waits_for: wait.party.claim(wait.place),
                    });
                }
            }
        }
        holders
    }
}
