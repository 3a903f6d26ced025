//! What waits for the disk: handed over by the core, taken by the store's thread, and bounded, however long the disk fails or
//! hangs.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::{call::Cdr, sip::registrar::Change, types::limits::STORE_BACKLOG_MAX};

use super::AuditEntry;

/// Entries of the audit log that wait for the disk, or whose orders are being carried out; no further order is then.
pub(super) const AUDIT_WAITING_MAX: usize = 10_000;

/// Shared by the store's handle and its thread. Its lock is held to move entries, and never while the disk is asked.
#[derive(Clone, Default)]
pub(super) struct Backlog(Arc<Mutex<Entries>>);

/// What the core hands over together.
#[derive(Debug, Default)]
pub struct Writes {
    pub changes: Vec<Change>,
    /// Of calls that begin; they are answered when this is on disk.
    pub begun: Vec<Cdr>,
    /// Of calls that have begun before.
    pub answered: Vec<Cdr>,
    pub cdrs: Vec<Cdr>,
}

impl Writes {
    pub(super) const fn is_nothing(&self) -> bool {
        self.changes.is_empty() && self.begun.is_empty() && self.answered.is_empty() && self.cdrs.is_empty()
    }

    /// Somebody waits for the disk.
    pub(super) const fn is_awaited(&self) -> bool {
        !self.changes.is_empty() || !self.begun.is_empty()
    }
}

/// What is to be written together, oldest first.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) changes: VecDeque<Change>,
    /// Of calls that go on, the last word on each: there are no more than calls.
    pub(super) open_cdrs: HashMap<String, Cdr>,
    pub(super) cdrs: VecDeque<Cdr>,
    pub(super) audit: VecDeque<AuditEntry>,
    /// Whom to tell that what they handed over is on disk.
    pub(super) done: Vec<oneshot::Sender<()>>,
}

/// Of binding changes, and of call detail records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    pub bindings: u64,
    pub cdrs: u64,
}

#[derive(Default)]
struct Entries {
    waiting: Batch,
    /// Those that the thread has taken and not written yet.
    taken: Numbers,
    /// Calls whose records were forgotten since then: what was taken may hold their beginning.
    forgotten: HashSet<String>,
    audit_taken: usize,
    /// Orders that are being carried out.
    audit_places: usize,
    /// Since the start.
    lost: Numbers,
    /// Something was lost since the disk last took all there was.
    is_loss_known: bool,
}

impl Backlog {
    /// Adds to what waits; the oldest makes room. `true`: that has begun.
    pub(super) fn push(&self, writes: Writes, done: Option<oneshot::Sender<()>>) -> bool {
        let Writes { changes, begun, answered, cdrs } = writes;
        let mut entries = self.lock();
        entries.waiting.changes.extend(changes);
        entries.waiting.open_cdrs.extend(begun.into_iter().chain(answered).map(|cdr| (cdr.id.clone(), cdr)));
        for cdr in &cdrs {
            entries.waiting.open_cdrs.remove(&cdr.id);
        }
        entries.waiting.cdrs.extend(cdrs);
        entries.waiting.done.extend(done);
        entries.bound()
    }

    /// Room for an entry of the audit log. `None`: that many are under way.
    pub(super) fn audit_place(&self, most: usize) -> Option<AuditPlace> {
        let mut entries = self.lock();
        if entries.audit_len() + entries.audit_places >= most {
            return None;
        }
        entries.audit_places += 1;
        Some(AuditPlace(self.clone()))
    }

    /// Entries of the audit log that are not on disk yet.
    pub(super) fn audit_waiting(&self) -> usize {
        self.lock().audit_len()
    }

    /// All there is; to be written and then [`Self::written`], or [`Self::put_back`].
    pub(super) fn take(&self) -> Batch {
        let mut entries = self.lock();
        let batch = std::mem::take(&mut entries.waiting);
        (entries.taken, entries.audit_taken) = (numbers(&batch), batch.audit.len());
        entries.forgotten = HashSet::new();
        batch
    }

    /// What was taken is on disk.
    pub(super) fn written(&self) {
        let mut entries = self.lock();
        (entries.taken, entries.audit_taken, entries.is_loss_known) = (Numbers::default(), 0, false);
        entries.forgotten = HashSet::new();
    }

    /// What was taken could not be written, and nobody waits for it any more.
    pub(super) fn put_back(&self, batch: Batch) {
        let mut entries = self.lock();
        let Batch { mut changes, mut open_cdrs, mut cdrs, mut audit, done: _ } = batch;
        // What is newer counts.
        entries.waiting.cdrs.iter().for_each(|cdr| drop(open_cdrs.remove(&cdr.id)));
        std::mem::take(&mut entries.forgotten).iter().for_each(|id| drop(open_cdrs.remove(id)));
        open_cdrs.extend(entries.waiting.open_cdrs.drain());
        entries.waiting.open_cdrs = open_cdrs;
        changes.append(&mut entries.waiting.changes);
        cdrs.append(&mut entries.waiting.cdrs);
        audit.append(&mut entries.waiting.audit);
        (entries.waiting.changes, entries.waiting.cdrs, entries.waiting.audit) = (changes, cdrs, audit);
        (entries.taken, entries.audit_taken) = (Numbers::default(), 0);
    }

    /// Not on disk yet.
    pub(super) fn waiting(&self) -> Numbers {
        let entries = self.lock();
        let waiting = numbers(&entries.waiting);
        Numbers { bindings: waiting.bindings + entries.taken.bindings, cdrs: waiting.cdrs + entries.taken.cdrs }
    }

    /// Forgotten because too many others waited.
    pub(super) fn lost(&self) -> Numbers {
        self.lock().lost
    }

    pub(super) fn is_empty(&self) -> bool {
        let has_open_cdrs = !self.lock().waiting.open_cdrs.is_empty();
        !has_open_cdrs && self.waiting() == Numbers::default() && self.audit_waiting() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Whoever panicked left entries as whole as they were.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Backlog({:?})", self.waiting())
    }
}

/// A place among the entries of the audit log that is given back or filled.
#[derive(Debug)]
pub struct AuditPlace(Backlog);

impl AuditPlace {
    pub(super) fn fill(self, entry: AuditEntry) {
        self.0.lock().waiting.audit.push_back(entry);
    }
}

impl Drop for AuditPlace {
    fn drop(&mut self) {
        self.0.lock().audit_places -= 1;
    }
}

impl Entries {
    fn audit_len(&self) -> usize {
        self.waiting.audit.len() + self.audit_taken
    }

    /// What the thread has taken cannot be forgotten, but counts.
    fn bound(&mut self) -> bool {
        let bindings = forget_oldest(&mut self.waiting.changes, self.taken.bindings).count() as u64;
        let forgotten: Vec<_> = forget_oldest(&mut self.waiting.cdrs, self.taken.cdrs).map(|cdr| cdr.id).collect();
        let cdrs = forgotten.len() as u64;
        self.forgotten.extend(forgotten);
        self.lost.bindings += bindings;
        self.lost.cdrs += cdrs;
        bindings + cdrs > 0 && !std::mem::replace(&mut self.is_loss_known, true)
    }
}

fn numbers(batch: &Batch) -> Numbers {
    Numbers { bindings: batch.changes.len() as u64, cdrs: batch.cdrs.len() as u64 }
}

/// Keeps to [`STORE_BACKLOG_MAX`] together with `taken` others. Returns those that are forgotten.
fn forget_oldest<T>(waiting: &mut VecDeque<T>, taken: u64) -> impl Iterator<Item = T> {
    let room = STORE_BACKLOG_MAX.saturating_sub(usize::try_from(taken).unwrap_or(usize::MAX));
    let excess = waiting.len().saturating_sub(room);
    waiting.drain(..excess)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::store::{
        audit::tests::entry,
        tests::{binding, cdr},
    };

    const MAX: u64 = STORE_BACKLOG_MAX as u64;

    fn remove(n: u64) -> Change {
        Change::Remove(binding("alice", &n.to_string()).into())
    }

    #[test]
    fn the_newest_are_kept_at_the_maximum_and_the_others_are_counted() {
        let backlog = Backlog::default();
        let push = |changes, cdrs| backlog.push(Writes { changes, cdrs, ..Writes::default() }, None);
        assert!(!push((0..MAX).map(remove).collect(), (0..MAX).map(cdr).collect()));
        assert_eq!((backlog.waiting(), backlog.lost()), (Numbers { bindings: MAX, cdrs: MAX }, Numbers::default()));
        assert!(push(vec![], vec![cdr(MAX)]), "the first loss is told of");
        assert!(!push(vec![remove(MAX)], vec![cdr(MAX + 1)]), "and no other");
        assert_eq!(backlog.lost(), Numbers { bindings: 1, cdrs: 2 });
        let batch = backlog.take();
        assert_eq!((batch.changes.front(), batch.changes.back()), (Some(&remove(1)), Some(&remove(MAX))));
        assert_eq!((batch.cdrs.front(), batch.cdrs.back()), (Some(&cdr(2)), Some(&cdr(MAX + 1))));
    }

    /// As when the disk hangs in the middle of a write: what it was given counts, and comes back before what is newer.
    #[test]
    fn what_is_being_written_counts_and_comes_back_in_its_place() {
        let backlog = Backlog::default();
        let push = |cdrs| backlog.push(Writes { cdrs, ..Writes::default() }, None);
        push(vec![cdr(1), cdr(2)]);
        let batch = backlog.take();
        push((3..MAX + 2).map(cdr).collect());
        assert_eq!((backlog.waiting().cdrs, backlog.lost().cdrs), (MAX, 1));
        backlog.put_back(batch);
        assert_eq!(backlog.waiting().cdrs, MAX);
        let batch = backlog.take();
        assert_eq!(batch.cdrs.iter().take(3).collect::<Vec<_>>(), [&cdr(1), &cdr(2), &cdr(4)]);
        backlog.written();
        assert!(backlog.is_empty());
        assert!(push((0..=MAX).map(cdr).collect()), "told of again, after all was written");
    }

    #[test]
    fn of_a_call_that_goes_on_the_last_word_waits_and_none_once_it_is_over() {
        let backlog = Backlog::default();
        let begun = |n| Writes { begun: vec![cdr(n)], ..Writes::default() };
        let answer = |n| Cdr { answer_ms: Some(7), ..cdr(n) };
        let answered = |n| Writes { answered: vec![answer(n)], ..Writes::default() };
        let over = |n| Writes { cdrs: vec![cdr(n)], ..Writes::default() };
        for writes in [begun(1), begun(2), begun(3), answered(1), begun(4), over(4)] {
            backlog.push(writes, None);
        }
        assert!(!backlog.is_empty());
        let waiting = |batch: &Batch| {
            let mut waiting: Vec<_> = batch.open_cdrs.values().cloned().collect();
            waiting.sort_by(|a, b| a.id.cmp(&b.id));
            waiting
        };
        let batch = backlog.take();
        assert_eq!(waiting(&batch), [answer(1), cdr(2), cdr(3)]);
        backlog.push(answered(2), None);
        backlog.push(over(3), None);
        backlog.put_back(batch);
        let batch = backlog.take();
        assert_eq!(waiting(&batch), [answer(1), answer(2)]);
        assert_eq!(batch.cdrs, [cdr(4), cdr(3)]);
        backlog.written();
        assert!(backlog.is_empty());

        // Nor where there is no room for its record.
        backlog.push(begun(5), None);
        let batch = backlog.take();
        backlog.push(Writes { cdrs: (5..=MAX + 5).map(cdr).collect(), ..Writes::default() }, None);
        backlog.put_back(batch);
        let batch = backlog.take();
        assert_eq!((waiting(&batch), batch.cdrs.front()), (vec![], Some(&cdr(6))));
    }

    /// Goal: no order is carried out of which nothing would be known. Method: places that are held, filled, taken to the disk
    /// and come back all count.
    #[test]
    fn an_order_has_its_place_in_the_audit_log_or_there_is_none() {
        let backlog = Backlog::default();
        let place = || backlog.audit_place(3);
        let (first, second) = (place().unwrap(), place().unwrap());
        first.fill(entry(1));
        let batch = backlog.take();
        let third = place().unwrap();
        assert!(place().is_none());
        drop(third);
        let third = place().unwrap();
        second.fill(entry(2));
        third.fill(entry(3));
        assert!(place().is_none());
        backlog.put_back(batch);
        assert!(place().is_none() && !backlog.is_empty());
        assert_eq!(backlog.take().audit, [entry(1), entry(2), entry(3)]);
        backlog.written();
        assert!(place().is_some() && backlog.is_empty());
    }
}
