//! The proof of ownership: a guard belongs to the thread that checked it out.
//!
//! A guard is neither `Send` nor `Sync`. `!Sync` alone would gain little: a guard that may be sent
//! fits into a `static Mutex`, and any thread can take it from there. The marker is a type of its own
//! so that the compiler's message says what is wrong (`lock_api` does the same for lock guards).
//! Handing a connection to another thread is still possible, but has to be said: [`Guard::detach`]
//! gives a value that can travel and do nothing else, and `attach` makes a guard of it where it
//! arrives.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::mem;
use std::sync::Arc;

use super::holders::Place;
use super::shared::{Lent, Shared};
use super::source::Manage;
use super::threads::Holding;

/// Named by the compiler when a guard, transaction or savepoint would leave its thread.
///
/// The remedy: check out a connection on the other thread, or hand this one over with `detach` and
/// `attach`.
pub(crate) struct GuardBelongsToTheThreadThatCheckedItOut;

/// A field of this type keeps a value on its thread.
pub(crate) type Pinned = PhantomData<*const GuardBelongsToTheThreadThatCheckedItOut>;

/// A checked-out connection. Dropping it is the check-in.
///
/// Two words, so that it travels in registers from the slot to its holder: a third would send it through
/// memory at each move, in pieces that are read before they are written.
pub(crate) struct Guard<'p, M: Manage> {
    /// The pool it goes back to; `None` = the one that the connection [keeps](Lent::keeps).
    borrowed: Option<&'p Arc<Shared<M>>>,
    /// `None` only while the guard is being taken apart.
    lent: Option<Box<Lent<M>>>,
    /// Dropped after the check-in.
    _holding: Holding,
    _pinned: Pinned,
}

impl<'p, M: Manage> Guard<'p, M> {
    #[inline]
    pub(super) fn borrowed(shared: &'p Arc<Shared<M>>, lent: Box<Lent<M>>) -> Self {
        Self::new(Some(shared), lent)
    }

    pub(super) fn owned(shared: Arc<Shared<M>>, mut lent: Box<Lent<M>>) -> Guard<'static, M> {
        lent.keeps = Some(shared);
        Guard::new(None, lent)
    }

    /// On the thread that holds the connection from now on.
    #[inline]
    fn new(borrowed: Option<&'p Arc<Shared<M>>>, lent: Box<Lent<M>>) -> Self {
        Self { borrowed, lent: Some(lent), _holding: Holding::begin(), _pinned: PhantomData }
    }

    #[inline]
    fn lent(&self) -> &Lent<M> {
        self.lent.as_ref().expect("a guard has its connection until it is dropped")
    }

    fn shared(&self) -> &Arc<Shared<M>> {
        let kept = || self.lent().keeps.as_ref().expect("a guard that borrows no pool keeps one");
        self.borrowed.unwrap_or_else(kept)
    }

    /// Only a shared reference: with `&mut`, two guards could exchange their connections.
    #[inline]
    pub(crate) fn connection(&self) -> &M::Connection {
        &self.lent().connection.connection
    }

    /// What the holder calls this hold, until it ends.
    pub(crate) fn set_label(&self, label: Cow<'static, str>) {
        self.shared().set_label(self.lent(), label);
    }

    pub(crate) fn detach(mut self) -> Detached<M> {
        let shared = Arc::clone(self.shared());
        let lent = self.lent.take().map(|mut lent| {
            lent.keeps = None;
            shared.detach(&lent);
            lent
        });
        Detached { shared, lent }
    }
}

impl<M: Manage> Drop for Guard<'_, M> {
    #[inline]
    fn drop(&mut self) {
        if let Some(lent) = self.lent.take() {
            match self.borrowed {
                Some(shared) => give_back(shared, lent),
                None => give_back_to_kept(lent),
            }
        }
    }
}

#[inline(never)]
fn give_back_to_kept<M: Manage>(mut lent: Box<Lent<M>>) {
    if let Some(shared) = lent.keeps.take() {
        give_back(&shared, lent);
    }
}

/// On the thread that has it.
#[inline(never)] // Lest the whole check-in stand wherever a guard is dropped.
fn give_back<M: Manage>(shared: &Arc<Shared<M>>, lent: Box<Lent<M>>) {
    if shared.is_forked() {
        // The parent's, both of them: they are left as they are.
        mem::forget(lent);
        shared.leak();
    } else {
        shared.keep_from_being_given_up(&lent);
        shared.check_in(lent);
    }
}

/// A checked-out connection on its way to another thread.
pub(crate) struct Detached<M: Manage> {
    shared: Arc<Shared<M>>,
    /// `None` only while it is being taken apart.
    lent: Option<Box<Lent<M>>>,
}

impl<M: Manage> Detached<M> {
    pub(crate) fn attach(mut self, place: Place) -> Guard<'static, M> {
        let lent =
            self.lent.take().expect("what was detached has its connection until it is dropped");
        // In a child the guard is good for nothing, and a note takes a lock.
        if !self.shared.is_forked() {
            self.shared.attach(&lent, place);
        }
        Guard::owned(Arc::clone(&self.shared), lent)
    }
}

impl<M: Manage> Drop for Detached<M> {
    fn drop(&mut self) {
        if self.shared.is_forked() {
            mem::forget(self.lent.take());
            self.shared.leak();
        } else if let Some(lent) = self.lent.take() {
            self.shared.check_in(lent);
        }
    }
}
