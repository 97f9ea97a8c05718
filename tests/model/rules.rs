//! The rules, as plainly as they can be said.

use std::collections::BTreeSet;

use tenure::CheckoutErrorKind as Refusal;

/// How a thread asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ask {
    Try,
    /// With a deadline that has passed already.
    NoTime,
    /// With one that passes while others do something.
    Soon,
    /// With one that never passes here.
    Late,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Answer {
    Served,
    Waits,
    Refused(Refusal),
}

/// A thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Thread {
    /// Of which pools it has guards.
    pub(crate) has: Vec<usize>,
    /// Of which pools it has leaked guards.
    pub(crate) leaked: Vec<usize>,
    pub(crate) waits_for: Option<usize>,
    /// Rises with every wait, of all threads.
    arrival: usize,
}

impl Thread {
    fn holds(&self, pool: usize) -> usize {
        self.has.iter().chain(&self.leaked).filter(|of| **of == pool).count()
    }

    fn holds_any(&self) -> bool {
        !self.has.is_empty() || !self.leaked.is_empty()
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    pub(crate) limit: usize,
    pub(crate) max_waiters: usize,
    pub(crate) closed: bool,
    /// Threads, the first to be served first.
    pub(crate) queue: Vec<usize>,
    pub(crate) detached: usize,
    /// Held by threads that have ended.
    pub(crate) lost: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) pools: Vec<Pool>,
    pub(crate) threads: Vec<Thread>,
    pub(crate) arrivals: usize,
}

impl Rules {
    pub(crate) fn held(&self, pool: usize) -> usize {
        let held: usize = self.threads.iter().map(|thread| thread.holds(pool)).sum();
        held + self.pools[pool].detached + self.pools[pool].lost
    }

    /// What is missing is opened again before the next step.
    pub(crate) fn idle(&self, pool: usize) -> usize {
        if self.pools[pool].closed {
            0
        } else {
            self.pools[pool].limit.saturating_sub(self.held(pool))
        }
    }

    pub(crate) fn check_out(&mut self, thread: usize, pool: usize, ask: Ask) -> Answer {
        let of = &self.pools[pool];
        if of.closed {
            return Answer::Refused(Refusal::Closed);
        }
        if self.idle(pool) > 0 {
            self.threads[thread].has.push(pool);
            return Answer::Served;
        }
        if ask == Ask::Try {
            return Answer::Refused(Refusal::Unavailable);
        }
        if of.queue.len() >= of.max_waiters {
            return Answer::Refused(Refusal::Overloaded);
        }
        self.threads[thread].waits_for = Some(pool);
        let in_vain = self.threads[thread].holds_any() && self.in_vain().contains(&thread);
        if in_vain || ask == Ask::NoTime {
            self.threads[thread].waits_for = None;
            let kind = if in_vain { Refusal::WouldDeadlock } else { Refusal::Timeout };
            return Answer::Refused(kind);
        }
        self.arrivals += 1;
        self.threads[thread].arrival = self.arrivals;
        self.pools[pool].queue.push(thread);
        Answer::Waits
    }

    /// The threads that wait and are not served even if all others give back all they have.
    fn in_vain(&self) -> BTreeSet<usize> {
        let waiting = |thread: &usize| self.threads[*thread].waits_for.is_some();
        let mut stuck: BTreeSet<usize> = (0..self.threads.len()).filter(waiting).collect();
        loop {
            let full = |pool: usize| {
                let held: usize =
                    stuck.iter().map(|thread| self.threads[*thread].holds(pool)).sum();
                held >= self.pools[pool].limit
            };
            let served = stuck
                .iter()
                .copied()
                .find(|thread| !full(self.threads[*thread].waits_for.expect("it waits")));
            match served {
                Some(thread) => stuck.remove(&thread),
                None => return stuck,
            };
        }
    }

    /// After a change of a limit: of those who wait in vain and are in their own way, the one that came
    /// last is told so, and the next one if that is not enough.
    pub(crate) fn tell_who_waits_in_vain(&mut self) -> Vec<(usize, Answer)> {
        let mut waiting: Vec<usize> = (0..self.threads.len())
            .filter(|one| self.threads[*one].waits_for.is_some() && self.threads[*one].holds_any())
            .collect();
        waiting.sort_unstable_by_key(|one| std::cmp::Reverse(self.threads[*one].arrival));
        let mut told = Vec::new();
        for thread in waiting {
            if self.in_vain().contains(&thread) && self.is_in_its_own_way(thread) {
                self.give_up(thread);
                told.push((thread, Answer::Refused(Refusal::WouldDeadlock)));
            }
        }
        told
    }

    /// Whether it holds a connection of the pool that it waits for, or of one that the holders there
    /// wait for, and so on.
    fn is_in_its_own_way(&self, thread: usize) -> bool {
        let in_vain = self.in_vain();
        let mut pools = Vec::from_iter(self.threads[thread].waits_for);
        let mut next = 0;
        while let Some(pool) = pools.get(next).copied() {
            next += 1;
            let holders = in_vain.iter().map(|one| &self.threads[*one]);
            for other in holders.filter(|one| one.holds(pool) > 0).filter_map(|one| one.waits_for) {
                if !pools.contains(&other) {
                    pools.push(other);
                }
            }
        }
        pools.into_iter().any(|pool| self.threads[thread].holds(pool) > 0)
    }

    /// Who is served by what has come back, or by a greater limit.
    pub(crate) fn serve(&mut self) -> Vec<(usize, Answer)> {
        let mut served = Vec::new();
        for number in 0..self.pools.len() {
            while self.idle(number) > 0 && !self.pools[number].queue.is_empty() {
                let first = self.pools[number].queue.remove(0);
                self.threads[first].waits_for = None;
                self.threads[first].has.push(number);
                served.push((first, Answer::Served));
            }
        }
        served
    }

    pub(crate) fn give_up(&mut self, thread: usize) {
        if let Some(pool) = self.threads[thread].waits_for.take() {
            self.pools[pool].queue.retain(|waiter| *waiter != thread);
        }
    }

    pub(crate) fn close(&mut self, pool: usize) -> Vec<(usize, Answer)> {
        self.pools[pool].closed = true;
        let queue = std::mem::take(&mut self.pools[pool].queue);
        for thread in &queue {
            self.threads[*thread].waits_for = None;
        }
        queue.into_iter().map(|thread| (thread, Answer::Refused(Refusal::Closed))).collect()
    }
}
