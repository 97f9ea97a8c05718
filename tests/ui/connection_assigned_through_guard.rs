// The pool's connection is replaced by one opened elsewhere, without its settings: foreign keys
// are off and no busy handler waits, for every borrower from then on.
//@ error: E0594

use tenure::WriteGuard;

#[cfg(misuse)]
pub fn reconnect(writer: &mut WriteGuard<'_>, fresh: tenure::Session) {
    **writer = fresh;
}

#[cfg(not(misuse))]
pub fn reconnect<'p>(writer: &mut WriteGuard<'p>, fresh: WriteGuard<'p>) {
    *writer = fresh;
}
