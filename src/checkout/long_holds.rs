//! Connections held for longer than somebody thinks right: said once for each hold.

use parking_lot::Mutex;

use super::clock;
use super::shared::Shared;
use super::source::Manage;

/// The hold of each slot that was said last, by the version of its note.
pub(super) struct Reported(Mutex<Vec<u64>>);

impl Reported {
    pub(super) fn new(slots: usize) -> Self {
        Self(Mutex::new(vec![0; slots]))
    }
}

impl<M: Manage> Shared<M> {
    /// Looks who holds a connection for too long. No checkout waits for this.
    pub(super) fn report_long_holds(&self) {
        let Some(limit) = self.settings.long_held_after else {
            return;
        };
        let now = clock::now();
        let mut reported = self.reported.0.lock();
        let notes = self.dispatch.notes().zip(reported.iter_mut()).enumerate();
        for (slot, (note, reported)) in notes {
            let version = note.version();
            let Some(held) = note.held() else { continue };
            let holder = self.describe(slot, &held, now);
            if holder.held < limit {
                continue;
            }
            if std::mem::replace(reported, version) != version {
                self.settings.log.long_hold(self.settings.role, &holder);
            }
        }
    }
}
