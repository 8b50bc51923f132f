//! What takes the room on this node's disk: its state store is read through, on a thread for long
//! queries, and what is found is counted by kind and purpose. The shell adds the files.

use std::collections::{BTreeMap, VecDeque};

use documents::{Amount, KindUsage, Usage};
use protocol::Response;
use serde_json::{Map, Value, json};
use storage::{Reader, Space, StoreError};

/// Where a node says it.
pub(crate) const DISK_LINK: &str = "/core/management/disk";

/// What only the shell knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The room of the files below each folder of the sandbox, and of each file beside them.
    pub bytes: BTreeMap<String, u64>,
    /// The free room of that file system, in bytes.
    pub free_bytes: Option<u64>,
}

/// The store is read through.
pub(crate) struct SurveyJob {
    node: String,
    /// What is not read yet, with the names of instances.
    spaces: VecDeque<(Space, Option<String>)>,
    /// The last key that was read of the first of them.
    after: Vec<u8>,
    /// The store as it was when that was begun.
    store: Box<dyn Reader + Send>,
    usage: Usage,
    /// What instances keep here beside their logs.
    instances: BTreeMap<String, Amount>,
    directory: Amount,
}

impl SurveyJob {
    /// `spaces`: what is to be read, with the names of instances.
    pub(crate) fn new(
        node: String,
        spaces: VecDeque<(Space, Option<String>)>,
        store: Box<dyn Reader + Send>,
    ) -> Self {
        Self {
            node,
            spaces,
            after: Vec::new(),
            store,
            usage: Usage::default(),
            instances: BTreeMap::new(),
            directory: Amount::default(),
        }
    }

    /// Reads about `bytes` bytes more. The answer, once all was read.
    pub(crate) fn step(
        &mut self,
        bytes: usize,
        files: &dyn Fn() -> Files,
    ) -> Result<Option<Response>, StoreError> {
        if let Some((space, name)) = self.spaces.front() {
            let (space, name) = (*space, name.clone());
            self.read(space, name.as_deref(), bytes)?;
        }
        Ok(self.spaces.is_empty().then(|| self.answer(&files())))
    }

    fn read(&mut self, space: Space, name: Option<&str>, bytes: usize) -> Result<(), StoreError> {
        let Self { usage, instances, directory, after, store, .. } = self;
        let mut failed = None;
        let mut amount = match name {
            _ if space.group.is_directory() => Some(directory),
            Some(name) => Some(instances.entry(name.to_owned()).or_default()),
            None if space.group.is_partition() => None,
            // It was removed just now.
            None => Some(instances.entry("(removed)".to_owned()).or_default()),
        };
        let stopped = space.walk(&**store, after, bytes, &mut |key, value| match &mut amount {
            Some(amount) => amount.add(key.len() + value.len()),
            None => failed = usage.add(key, value).err().or(failed.take()),
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(last) = stopped {
            *after = last;
        } else {
            after.clear();
            self.spaces.pop_front();
        }
        Ok(())
    }

    fn answer(&self, files: &Files) -> Response {
        let kinds: Map<String, Value> =
            self.usage.kinds.iter().map(|(factory, kind)| (factory.clone(), shown(kind))).collect();
        let instances: Map<String, Value> =
            self.instances.iter().map(|(name, it)| (name.clone(), amount(*it))).collect();
        let body = json!({
            "id": self.node,
            "files": files.bytes,
            "freeBytes": files.free_bytes,
            "kinds": kinds,
            "index": amount(self.usage.index),
            "requestKeys": amount(self.usage.request_keys),
            "other": amount(self.usage.other),
            "instances": instances,
            "directory": amount(self.directory),
            "documentSelfLink": DISK_LINK,
            "documentKind": "amrita:DiskUsage",
        });
        Response::json(200, &body)
    }
}

fn amount(amount: Amount) -> Value {
    json!({"count": amount.count, "bytes": amount.bytes})
}

fn shown(kind: &KindUsage) -> Value {
    json!({
        "documents": amount(kind.latest),
        "versions": amount(kind.versions),
        "tombstones": amount(kind.tombstones),
    })
}

#[cfg(test)]
mod tests {
    use protocol::GroupId;
    use storage::{Batch, MemoryStore, StateStore};

    use super::*;

    fn found(store: &MemoryStore, spaces: &[(Space, Option<&str>)], step_bytes: usize) -> Value {
        let spaces = spaces.iter().map(|(space, name)| (*space, name.map(str::to_owned)));
        let mut job = SurveyJob::new("n1".into(), spaces.collect(), store.view());
        let files = || Files { bytes: [("log".to_owned(), 7)].into(), free_bytes: Some(9) };
        loop {
            if let Some(answer) = job.step(step_bytes, &files).unwrap() {
                return answer.to_json();
            }
        }
    }

    #[test]
    fn each_group_counts_for_what_it_is_however_often_it_is_stopped() {
        let mut store = MemoryStore::default();
        let space = |group| Space { group: GroupId(group), generation: 1 };
        let instance = space(1 << 20);
        let mut batch = Batch::default();
        batch.put(space(0).key(1, b"x"), b"xx");
        batch.put(space(1).key(1, b"/a/one"), [0, 0]);
        batch.put(space(2).key(1, b"/a/two"), [0, 0, 0]);
        batch.put(space(2).key(0x80, b"posting"), []);
        // Of a snapshot that was replaced.
        batch.put(Space { generation: 2, ..space(2) }.key(1, b"/a/three"), [0]);
        batch.put(instance.key(1, b"piece"), [0; 10]);
        batch.put(space(3).key(1, b"/b/not-asked"), [0]);
        store.write(batch).unwrap();
        let spaces = [(space(0), None), (space(1), None), (space(2), None), (instance, Some("i"))];
        let found_whole = found(&store, &spaces, 1 << 20);
        assert_eq!(found(&store, &spaces, 1), found_whole);
        let amount = |count: u64, bytes: u64| json!({"count": count, "bytes": bytes});
        let kinds = json!({"/a": {
            "documents": amount(2, 7 + 2 + 7 + 3),
            "versions": amount(0, 0),
            "tombstones": amount(0, 0),
        }});
        assert_eq!(found_whole["kinds"], kinds);
        assert_eq!(found_whole["index"], amount(1, 8));
        assert_eq!(found_whole["instances"], json!({"i": amount(1, 16)}));
        assert_eq!(found_whole["directory"], amount(1, 4));
        assert_eq!(found_whole["files"], json!({"log": 7}));
        assert_eq!(found_whole["freeBytes"], 9);
    }
}
