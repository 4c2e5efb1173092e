//! Resources that were just received, from the watch or in the response to a write, and need not be read again. State
//! only.
//!
//! Whether one is the newest version is checked against the index when it is taken, and by the API server when
//! something is written: a write carries the resourceVersion that was read.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{api::Verification, index::RecordId};

/// A resource need not be read for this long.
const FRESH: Duration = Duration::from_secs(10);
/// Maximum number of bytes of all resources, approximately.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// A resource whose JSON is larger is read again. The API server may encode a character in six bytes (`\u003c`), so a
/// smaller one has room for a record whatever it contains.
const LARGEST: usize = 64 * 1024;

/// Resources that were just received.
#[derive(Debug, Default)]
pub(crate) struct RecentObjects(Mutex<Objects>);

#[derive(Debug, Default)]
struct Objects {
    by_record: HashMap<RecordId, RecentObject>,
    by_age: BTreeSet<(Instant, RecordId)>,
    bytes: usize,
}

#[derive(Debug)]
struct RecentObject {
    object: Box<Verification>,
    since: Instant,
    bytes: usize,
}

impl RecentObjects {
    /// Inserts a resource that was received at `since`, in place of an earlier version; drops it if there is no room.
    pub(super) fn insert(&self, record_id: RecordId, object: Box<Verification>, since: Instant) {
        let size = size(&object).filter(|size| *size <= LARGEST);
        let mut received = self.0.lock();
        received.remove(record_id);
        received.forget_before(Instant::now());
        let Some(size) = size else { return };
        // The parsed form of a resource takes about twice its text.
        let bytes = size_of::<Verification>() + 2 * size;
        if received.bytes + bytes <= MOST_BYTES {
            received.bytes += bytes;
            received.by_age.insert((since, record_id));
            received.by_record.insert(record_id, RecentObject { object, since, bytes });
        }
    }

    /// Takes a resource and the time when it was received, if that was within the last ten seconds.
    pub(super) fn take(&self, record_id: RecordId) -> Option<(Box<Verification>, Instant)> {
        let mut received = self.0.lock();
        received.forget_before(Instant::now());
        let RecentObject { object, since, bytes: _ } = received.remove(record_id)?;
        Some((object, since))
    }

    /// Forgets a resource that is gone.
    pub(super) fn forget(&self, record_id: RecordId) {
        self.0.lock().remove(record_id);
    }

    /// Forgets old entries, and returns the approximate bytes of the others.
    pub(super) fn forget_old(&self) -> usize {
        let mut received = self.0.lock();
        received.forget_before(Instant::now());
        received.bytes
    }
}

impl Objects {
    fn remove(&mut self, record_id: RecordId) -> Option<RecentObject> {
        let entry = self.by_record.remove(&record_id)?;
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
        if self.by_record.is_empty() {
            // Frees the memory of a burst.
            self.by_record.shrink_to_fit();
        }
    }
}

/// Whether a resource, as the API server sent it, is small enough to have room for a record, whatever is pruned from it
/// later.
pub(super) fn is_small(object: &Verification) -> bool {
    size(object).is_some_and(|size| size <= LARGEST)
}

/// The size of a resource as JSON; `None` if it cannot be serialized.
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
    use crate::{cluster::prune, index::Index, lifecycle::fixtures};

    #[test]
    fn the_size_of_a_resource_includes_what_no_reconcile_reads() {
        let small = object("a", "x");
        assert!(is_small(&small));
        let mut large = small.clone();
        let others = [("example.com/note".to_owned(), "x".repeat(LARGEST))];
        large.metadata.annotations = Some(others.into());
        assert!(!is_small(&large));
        assert!(is_small(&prune(large)), "pruned fields do not count");
        let mut managed = small;
        let writers = json!([{"manager": "x".repeat(LARGEST), "operation": "Apply"}]);
        managed.metadata.managed_fields = serde_json::from_value(writers).unwrap();
        assert!(!is_small(&managed));
    }

    fn object(name: &str, note: &str) -> Box<Verification> {
        let mut object = fixtures::verification(name);
        object.metadata.uid = Some(name.to_owned());
        for annotation in ["okid.io/retry", "example.com/note"] {
            object.annotations_mut().insert(annotation.to_owned(), note.to_owned());
        }
        object.labels_mut().insert("a".to_owned(), note.to_owned());
        Box::new(object)
    }

    fn record_ids(count: usize) -> Vec<RecordId> {
        let mut index = Index::new();
        let mut record_id =
            |number: usize| index.applied(&object(&number.to_string(), "").metadata, |_| ()).record_id();
        (0..count).map(&mut record_id).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_resource_is_taken_once_and_for_ten_seconds_at_most() {
        let (recent, record_ids) = (RecentObjects::default(), record_ids(2));
        recent.insert(record_ids[0], object("a", ""), Instant::now());
        advance(Duration::from_secs(9)).await;
        let (taken, since) = recent.take(record_ids[0]).unwrap();
        assert_eq!((taken.name_any().as_str(), since.elapsed()), ("a", Duration::from_secs(9)));
        assert!(recent.take(record_ids[0]).is_none());

        recent.insert(record_ids[0], taken, since);
        recent.insert(record_ids[1], object("b", ""), Instant::now());
        advance(Duration::from_secs(1)).await;
        assert!(recent.take(record_ids[0]).is_none(), "its age continues when it is put back");
        assert!(recent.forget_old() > 0);
        advance(Duration::from_secs(9)).await;
        assert_eq!(recent.forget_old(), 0);
        assert!(recent.0.lock().by_record.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_bytes_of_all_and_of_each_are_bounded() {
        let (recent, record_ids) = (RecentObjects::default(), record_ids(200));
        for record_id in &record_ids {
            recent.insert(*record_id, object("a", &"x".repeat(10 * 1024)), Instant::now());
        }
        let held = recent.forget_old();
        assert!(held <= MOST_BYTES && held > MOST_BYTES / 2, "{held}");
        assert!(recent.take(record_ids[0]).is_some(), "the first is still there");
        recent.insert(record_ids[0], object("a", &"x".repeat(LARGEST)), Instant::now());
        assert!(recent.take(record_ids[0]).is_none());
    }
}
