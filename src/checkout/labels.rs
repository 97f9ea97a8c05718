//! What holders call their holds, for those who read of them in errors, in the log and in the status.
//!
//! A label is kept beside the note of its slot, with the versions of the note that it is about: every
//! hold begins with a new one. So nothing has to be taken away at check-in, no next holder can have it,
//! and a hold without a label has nothing to do with this. (A field of the note lost: every check-in
//! would have to look at it.) Each slot keeps one label at most, of bounded length.

use std::borrow::Cow;

use parking_lot::Mutex;

use super::holders::Note;
use super::shared::{Lent, Shared};
use super::source::Manage;
use super::threads;

/// A label is cut after so many bytes.
const LONGEST: usize = 80;

struct Label {
    text: Cow<'static, str>,
    /// The versions of the note that belong to the hold.
    first: u64,
    last: u64,
}

impl Label {
    fn is_of(&self, version: u64) -> bool {
        (self.first..=self.last).contains(&version)
    }
}

/// The label of each slot.
pub(super) struct Labels(Box<[Mutex<Option<Label>>]>);

impl Labels {
    pub(super) fn new(slots: usize) -> Self {
        Self((0..slots).map(|_| Mutex::default()).collect())
    }

    /// What the hold of this version of the slot's note is called.
    pub(super) fn of(&self, slot: usize, version: u64) -> Option<String> {
        let label = self.0[slot].lock();
        label.as_ref().filter(|label| label.is_of(version)).map(|label| label.text.to_string())
    }

    /// Has the label stay, while `attach` writes another version of the note of the same hold.
    pub(super) fn carry(&self, slot: usize, note: &Note, attach: impl FnOnce()) {
        let mut label = self.0[slot].lock();
        let before = note.version();
        attach();
        if let Some(label) = label.as_mut().filter(|label| label.is_of(before)) {
            label.last = note.version();
        }
    }

    fn set(&self, slot: usize, version: u64, text: Cow<'static, str>) {
        let label = Label { text: cut(text), first: version, last: version };
        *self.0[slot].lock() = (!label.text.is_empty()).then_some(label);
    }
}

fn cut(text: Cow<'static, str>) -> Cow<'static, str> {
    if text.len() <= LONGEST {
        return text;
    }
    let end = text.floor_char_boundary(LONGEST);
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
        // A copy, as short as it is.
        Cow::Owned(text) => Cow::Owned(text[..end].to_owned()),
    }
}

impl<M: Manage> Shared<M> {
    /// To be called by the holder.
    pub(super) fn set_label(&self, lent: &Lent<M>, text: Cow<'static, str>) {
        // In a child a thread that does not exist there may have the lock.
        if self.is_forked() {
            return;
        }
        // Once the thread has ended, the slot may be somebody else's at any moment.
        let _giving_up = threads::has_ended().then(|| self.giving_up.lock());
        if self.is_current(lent) {
            let version = self.dispatch.note(lent.slot).version();
            self.labels.set(lent.slot, version, text);
        }
    }
}
