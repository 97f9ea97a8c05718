//! The statements that a connection keeps prepared for its holders, by their text.
//!
//! `rusqlite`'s cache does the same, in 160 ns for each use: it moves a statement out of its table and
//! in again, and copies the text each time, so that what is out can be a `Statement` that borrows the
//! connection. Here a text has its place in the table for as long as it is kept, and only the statement
//! moves. And what `rusqlite` hands out can be exchanged (`mem::swap`) for a statement of another
//! connection, which is then kept, and run, by a connection that it does not belong to; what is handed
//! out here cannot, for only this crate gets to see it mutably.
//!
//! The table is `hashlink`'s, which `rusqlite` uses too: the text that was used longest ago leaves first.
//! One that has left while its statement was out is back when that is.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem::{self, ManuallyDrop};
use std::ops::Deref;
use std::rc::Rc;

use hashlink::LruCache;
use rusqlite::Statement;

/// Where a statement is while nobody uses it.
struct Place {
    text: Rc<str>,
    /// What its user has said of the text.
    only_rows: bool,
    statement: Cell<Option<Statement<'static>>>,
}

/// The statements of one connection. Must be dropped before the connection is closed.
pub(super) struct StatementCache {
    places: RefCell<LruCache<Rc<str>, Rc<Place>>>,
    /// How many were lent and have not come back.
    out: Cell<usize>,
}

impl StatementCache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { places: RefCell::new(LruCache::new(capacity)), out: Cell::new(0) }
    }

    /// Lends the statement of this text, if there is one that nobody uses.
    #[inline]
    pub(super) fn take(&self, sql: &str) -> Option<CachedStatement<'_>> {
        self.take_if(sql, |_| true)
    }

    /// As [`take`](Self::take), of those only that were said to read and change rows.
    #[inline]
    pub(super) fn take_only_rows(&self, sql: &str) -> Option<CachedStatement<'_>> {
        self.take_if(sql, |place| place.only_rows)
    }

    #[inline]
    fn take_if(&self, sql: &str, which: impl Fn(&Place) -> bool) -> Option<CachedStatement<'_>> {
        let mut places = self.places.borrow_mut();
        let place = places.get(sql).filter(|place| which(place))?;
        let statement = place.statement.take()?;
        Some(self.lend(statement, Some(Rc::clone(place))))
    }

    /// Lends a new statement, to be kept when it comes back. `only_rows` = it does no more than read and
    /// change rows.
    ///
    /// # Safety
    ///
    /// It is a statement of this cache's connection, of this text, and not null.
    pub(super) unsafe fn keep<'c>(
        &'c self,
        sql: &str,
        only_rows: bool,
        statement: Statement<'c>,
    ) -> CachedStatement<'c> {
        let place = Place { text: sql.into(), only_rows, statement: Cell::new(None) };
        self.lend(statement, Some(Rc::new(place)))
    }

    /// Lends what a text without a statement was prepared to.
    pub(super) fn do_not_keep<'c>(&'c self, nothing: Statement<'c>) -> CachedStatement<'c> {
        self.lend(nothing, None)
    }

    #[inline]
    fn lend<'c>(
        &'c self,
        statement: Statement<'c>,
        place: Option<Rc<Place>>,
    ) -> CachedStatement<'c> {
        self.out.set(self.out.get() + 1);
        let statement = ManuallyDrop::new(statement);
        CachedStatement { statement, cache: self, place, may_be_running: false }
    }

    /// Gives a place that is not in the table, with its statement, a place there.
    #[cold]
    fn insert(&self, place: Rc<Place>) {
        let mut places = self.places.borrow_mut();
        // What leaves is finalized when the table can be used again: that may call what belongs to the
        // application.
        let same = places.remove(&place.text);
        let oldest = (places.len() >= places.capacity()).then(|| places.remove_lru());
        let itself = match places.capacity() {
            0 => Some(place),
            _ => places.insert(Rc::clone(&place.text), place),
        };
        drop(places);
        drop((same, oldest, itself));
    }

    /// Finalizes those that nobody has.
    pub(super) fn clear(&self) {
        let mut places = self.places.borrow_mut();
        let capacity = places.capacity();
        let gone = mem::replace(&mut *places, LruCache::new(capacity));
        // What is finalized may call what belongs to the application.
        drop(places);
        drop(gone);
    }

    /// How many were lent and have not come back: in use, or forgotten.
    #[inline]
    pub(super) fn out(&self) -> usize {
        self.out.get()
    }

    /// Those that are out were forgotten.
    #[inline]
    pub(super) fn write_off(&self) {
        self.out.set(0);
    }
}

/// A prepared statement that goes back to its connection when it is dropped, for the next who asks for
/// the same text.
///
/// It has the methods of [`rusqlite::Statement`]: those that only look by dereferencing to it, those that
/// run it under the same names. There is no `&mut Statement` to be had from it, for that could be
/// exchanged for the statement of another connection, which would then be kept by the wrong one
/// ([`rusqlite::CachedStatement`] allows that). A function that wants one gets it from
/// [`prepare`](crate::ReadSession::prepare).
pub struct CachedStatement<'c> {
    /// Taken out by `drop`.
    statement: ManuallyDrop<Statement<'c>>,
    cache: &'c StatementCache,
    /// Taken out by `drop`. `None` = there is no statement in the text.
    place: Option<Rc<Place>>,
    /// Its rows were handed out, and may have been forgotten before the last.
    may_be_running: bool,
}

impl<'c> CachedStatement<'c> {
    /// To run it to its end. The caller leaves this very statement there.
    #[inline]
    pub(crate) fn statement(&mut self) -> &mut Statement<'c> {
        &mut self.statement
    }

    /// As [`statement`](Self::statement), for who hands out its rows.
    #[inline]
    pub(crate) fn statement_with_rows(&mut self) -> &mut Statement<'c> {
        self.may_be_running = true;
        &mut self.statement
    }

    /// Whether the text was more than a comment: SQLite's functions do not all take a null statement.
    pub(crate) fn is_statement(&self) -> bool {
        self.place.is_some()
    }

    /// Finalizes the statement instead of keeping it.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let reader = pool.read()?;
    /// let mut statement = reader.prepare_cached("SELECT 1")?;
    /// assert!(statement.exists([])?);
    /// statement.discard();
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn discard(self) {
        let place = self.place.clone();
        let cache = self.cache;
        drop(self);
        if let Some(place) = place {
            let gone = cache.places.borrow_mut().remove(&place.text);
            drop(gone);
        }
    }
}

impl<'c> Deref for CachedStatement<'c> {
    type Target = Statement<'c>;

    #[inline]
    fn deref(&self) -> &Statement<'c> {
        &self.statement
    }
}

impl Drop for CachedStatement<'_> {
    #[inline]
    fn drop(&mut self) {
        let out = &self.cache.out;
        out.set(out.get().saturating_sub(1));
        // SAFETY: taken once, by this body, and the field is not used again.
        let mut statement = unsafe { ManuallyDrop::take(&mut self.statement) };
        if let Some(place) = self.place.take() {
            if self.may_be_running {
                // Dropping rows resets their statement.
                drop(statement.raw_query());
            }
            statement.clear_bindings();
            // SAFETY: a statement of the connection whose cache this is: `statement()` promises that it
            // was not exchanged. From its place it is only lent for as long as the cache lives, which is
            // dropped before the connection.
            let statement =
                unsafe { mem::transmute::<Statement<'_>, Statement<'static>>(statement) };
            drop(place.statement.replace(Some(statement)));
            // Alone with the place: the text is new, or has left the table meanwhile.
            if Rc::strong_count(&place) == 1 {
                self.cache.insert(place);
            }
        }
    }
}

/// Without the path or the SQL.
impl fmt::Debug for CachedStatement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedStatement").finish_non_exhaustive()
    }
}
