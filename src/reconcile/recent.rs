//! Resources as they came a moment ago, from the watch or with the answer to a write: who has one of them need not read
//! it. Touches nothing.
//!
//! That it is the newest is checked against the table when it is taken, and again by the API server, when something is
//! written for it: a write carries the resourceVersion that was read.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{api::Verification, index::RecordId};

/// For how long one is as good as read.
const FRESH: Duration = Duration::from_secs(10);
/// Most bytes of all that are kept, about.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// One that is larger as JSON is read again. The API server may write a character of it in six bytes (`\u003c`), so what
/// is kept has room for a record whatever it holds.
const LARGEST: usize = 64 * 1024;

/// The resources that are kept.
#[derive(Debug, Default)]
pub(crate) struct RecentObjects(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_slot: HashMap<RecordId, Entry>,
    by_age: BTreeSet<(Instant, RecordId)>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    object: Box<Verification>,
    since: Instant,
    bytes: usize,
}

impl RecentObjects {
    /// Keeps a resource that came at that time, in place of what is kept of it; not where there is no room.
    pub(super) fn keep(&self, record_id: RecordId, object: Box<Verification>, since: Instant) {
        let size = size(&object).filter(|size| *size <= LARGEST);
        let mut kept = self.0.lock();
        kept.remove(record_id);
        kept.forget_before(Instant::now());
        let Some(size) = size else { return };
        // The parts of a resource take about twice their text.
        let bytes = size_of::<Verification>() + 2 * size;
        if kept.bytes + bytes <= MOST_BYTES {
            kept.bytes += bytes;
            kept.by_age.insert((since, record_id));
            kept.by_slot.insert(record_id, Entry { object, since, bytes });
        }
    }

    /// Takes what is kept of a resource, and since when, if it came within the last ten seconds.
    pub(super) fn take(&self, record_id: RecordId) -> Option<(Box<Verification>, Instant)> {
        let mut kept = self.0.lock();
        kept.forget_before(Instant::now());
        let Entry { object, since, bytes: _ } = kept.remove(record_id)?;
        Some((object, since))
    }

    /// Forgets a resource that is gone.
    pub(super) fn forget(&self, record_id: RecordId) {
        self.0.lock().remove(record_id);
    }

    /// Forgets what came too long ago, and returns the bytes of the rest, about.
    pub(super) fn forget_old(&self) -> usize {
        let mut kept = self.0.lock();
        kept.forget_before(Instant::now());
        kept.bytes
    }
}

impl Kept {
    fn remove(&mut self, record_id: RecordId) -> Option<Entry> {
        let entry = self.by_slot.remove(&record_id)?;
        self.by_age.remove(&(entry.since, record_id));
        self.bytes -= entry.bytes;
        Some(entry)
    }

    fn forget_before(&mut self, now: Instant) {
        while let Some(&(since, record_id)) = self.by_age.first()
            && now.saturating_duration_since(since) >= FRESH
        {
            self.remove(record_id);
        }
        if self.by_slot.is_empty() {
            // What a burst has used is given back.
            self.by_slot.shrink_to_fit();
        }
    }
}

/// Whether a resource, as the API server sent it, is so small that it has room for a record whatever is left out of it
/// later.
pub(super) fn is_small(object: &Verification) -> bool {
    size(object).is_some_and(|size| size <= LARGEST)
}

/// What a resource takes as JSON; nothing, if it cannot be written.
fn size(object: &Verification) -> Option<usize> {
    struct Count(usize);

    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut count = Count(0);
    serde_json::to_writer(&mut count, object).ok().map(|()| count.0)
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt as _;
    use serde_json::json;
    use tokio::time::advance;

    use super::*;
    use crate::{cluster::prune, index::Index};

    #[test]
    fn a_resource_is_weighed_with_what_no_turn_reads() {
        let small = object("a", "x");
        assert!(is_small(&small));
        let mut large = small.clone();
        let others = [("example.com/note".to_owned(), "x".repeat(LARGEST))];
        large.metadata.annotations = Some(others.into());
        assert!(!is_small(&large));
        assert!(is_small(&prune(large)), "which says nothing of what is left out");
        let mut managed = small;
        let writers = json!([{"manager": "x".repeat(LARGEST), "operation": "Apply"}]);
        managed.metadata.managed_fields = serde_json::from_value(writers).unwrap();
        assert!(!is_small(&managed));
    }

    fn object(name: &str, note: &str) -> Box<Verification> {
        serde_json::from_value(json!({
            "apiVersion": "okid.io/v1alpha1", "kind": "Verification",
            "metadata": {
                "namespace": "kyc", "name": name, "uid": name, "resourceVersion": "1",
                "annotations": {"okid.io/retry": note, "example.com/note": note}, "labels": {"a": note},
            },
            "spec": {"apiKeySecretRef": {"name": "okid"}},
        }))
        .unwrap()
    }

    /// A slot for each of so many resources.
    fn slots(count: usize) -> Vec<RecordId> {
        let mut index = Index::new();
        let mut record_id =
            |number: usize| index.applied(&object(&number.to_string(), "").metadata, |_| ()).record_id();
        (0..count).map(&mut record_id).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_is_taken_once_and_for_ten_seconds_at_most() {
        let (fresh, slots) = (RecentObjects::default(), slots(2));
        fresh.keep(slots[0], object("a", ""), Instant::now());
        advance(Duration::from_secs(9)).await;
        let (taken, since) = fresh.take(slots[0]).unwrap();
        assert_eq!((taken.name_any().as_str(), since.elapsed()), ("a", Duration::from_secs(9)));
        assert!(fresh.take(slots[0]).is_none());

        fresh.keep(slots[0], taken, since);
        fresh.keep(slots[1], object("b", ""), Instant::now());
        advance(Duration::from_secs(1)).await;
        assert!(fresh.take(slots[0]).is_none(), "its age goes on when it is put back");
        assert!(fresh.forget_old() > 0);
        advance(Duration::from_secs(9)).await;
        assert_eq!(fresh.forget_old(), 0);
        assert!(fresh.0.lock().by_slot.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_is_kept_is_bounded_and_so_is_each() {
        let (fresh, slots) = (RecentObjects::default(), slots(200));
        for record_id in &slots {
            fresh.keep(*record_id, object("a", &"x".repeat(10 * 1024)), Instant::now());
        }
        let kept = fresh.forget_old();
        assert!(kept <= MOST_BYTES && kept > MOST_BYTES / 2, "{kept}");
        assert!(fresh.take(slots[0]).is_some(), "who came first goes first, and keeps its place");
        fresh.keep(slots[0], object("a", &"x".repeat(LARGEST)), Instant::now());
        assert!(fresh.take(slots[0]).is_none());
    }
}
