//! The proof of ownership: a guard belongs to the thread that checked it out.
//!
//! A guard is neither `Send` nor `Sync`. `!Sync` alone would gain little: a guard that may be sent
//! fits into a `static Mutex`, and any thread can take it from there. The marker is a type of its own
//! so that the compiler's message says what is wrong (`lock_api` does the same for lock guards).
//! Handing a connection to another thread is still possible, but has to be said: [`Guard::detach`]
//! gives a value that can travel and do nothing else, and `attach` makes a guard of it where it
//! arrives.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use super::holders::{HolderId, Place};
use super::slots::{Connection, Shared};
use super::source::Manage;

/// Named by the compiler when a guard, transaction or savepoint would leave its thread.
///
/// The remedy: check out a connection on the other thread, or hand this one over with `detach` and
/// `attach`.
pub(crate) struct GuardBelongsToTheThreadThatCheckedItOut;

/// A field of this type keeps a value on its thread.
pub(crate) type Pinned = PhantomData<*const GuardBelongsToTheThreadThatCheckedItOut>;

/// How a guard reaches the pool it goes back to.
enum Owner<'p, M: Manage> {
    Borrowed(&'p Arc<Shared<M>>),
    Owned(Arc<Shared<M>>),
}

impl<M: Manage> Owner<'_, M> {
    fn shared(&self) -> &Arc<Shared<M>> {
        match self {
            Self::Borrowed(shared) => shared,
            Self::Owned(shared) => shared,
        }
    }
}

/// What a checkout is made of, on whichever thread it is.
pub(super) struct Lease<M: Manage> {
    pub(super) connection: Connection<M>,
    pub(super) holder: HolderId,
    pub(super) since: Instant,
}

/// A checked-out connection. Dropping it is the check-in.
pub(crate) struct Guard<'p, M: Manage> {
    owner: Owner<'p, M>,
    /// `None` only while the guard is being taken apart.
    lease: Option<Lease<M>>,
    _pinned: Pinned,
}

impl<'p, M: Manage> Guard<'p, M> {
    pub(super) fn borrowed(shared: &'p Arc<Shared<M>>, lease: Lease<M>) -> Self {
        Self { owner: Owner::Borrowed(shared), lease: Some(lease), _pinned: PhantomData }
    }

    pub(super) fn owned(shared: Arc<Shared<M>>, lease: Lease<M>) -> Guard<'static, M> {
        Guard { owner: Owner::Owned(shared), lease: Some(lease), _pinned: PhantomData }
    }

    /// Only a shared reference: with `&mut`, two guards could exchange their connections.
    pub(crate) fn connection(&self) -> &M::Connection {
        let lease = self.lease.as_ref().expect("a guard has its lease until it is dropped");
        &lease.connection.connection
    }

    pub(crate) fn detach(mut self) -> Detached<M> {
        let shared = Arc::clone(self.owner.shared());
        let lease = self.lease.take();
        if let Some(lease) = &lease {
            shared.detach(lease.holder);
        }
        Detached { shared, lease }
    }
}

impl<M: Manage> Drop for Guard<'_, M> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.owner.shared().check_in(lease);
        }
    }
}

/// A checked-out connection on its way to another thread.
pub(crate) struct Detached<M: Manage> {
    shared: Arc<Shared<M>>,
    lease: Option<Lease<M>>,
}

impl<M: Manage> Detached<M> {
    pub(crate) fn attach(mut self, place: Place) -> Guard<'static, M> {
        let lease = self.lease.take();
        if let Some(lease) = &lease {
            self.shared.attach(lease.holder, place);
        }
        Guard { owner: Owner::Owned(Arc::clone(&self.shared)), lease, _pinned: PhantomData }
    }
}

impl<M: Manage> Drop for Detached<M> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.shared.check_in(lease);
        }
    }
}
