//! The log that Qdrant Edge writes ahead of its segments: a text of all vectors, as large as they are once more. Edge
//! never reads it again but for the number of the last change, and never shortens it.

use std::{fs, io, path::Path};

/// Removes what is flushed of the log of a shard that is closed. Its last whole file stays, since the numbers of changes
/// go on from there: Edge takes no change that has a lower number than the last.
pub(super) fn shorten(shard: &Path) -> io::Result<()> {
    let mut whole = Vec::new();
    for entry in fs::read_dir(shard.join("wal"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(first) = name.and_then(|name| name.strip_prefix("closed-")?.parse::<u64>().ok()) {
            whole.push((first, path));
        }
    }
    whole.sort_unstable();
    whole.pop();
    whole.iter().try_for_each(|(_, path)| fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use qdrant_edge::{
        CountRequest, Distance, EdgeConfig, EdgeShard, EdgeVectorParams, PointId, PointInsertOperations,
        PointOperations, PointStruct, UpdateOperation, Vectors, WalOptions, WithPayloadInterface,
    };
    use serde_json::json;

    use super::*;

    const POINTS: u64 = 400;

    fn upsert(shard: &EdgeShard, round: u64) {
        for number in 0..POINTS {
            let vectors = Vectors::from(vec![1.0; 256]);
            let point = PointStruct::new(PointId::NumId(number), vectors, json!({ "round": round }));
            let points = PointInsertOperations::PointsList(vec![point.into()]);
            shard.update(UpdateOperation::PointOperation(PointOperations::UpsertPoints(points))).unwrap();
        }
    }

    fn bytes(shard: &Path) -> u64 {
        fs::read_dir(shard.join("wal")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    }

    #[test]
    fn a_shard_with_a_shortened_log_has_all_points_and_takes_changes() {
        let directory = tempfile::tempdir().unwrap();
        let params = EdgeVectorParams::builder(256, Distance::Cosine).build();
        let log = WalOptions { segment_capacity: 8192, ..WalOptions::default() };
        let config = EdgeConfig::builder().vector("", params).wal_options(log).build();
        let shard = EdgeShard::new(directory.path(), config).unwrap();
        upsert(&shard, 1);
        drop(shard);
        let before = bytes(directory.path());
        shorten(directory.path()).unwrap();
        assert!(bytes(directory.path()) * 4 < before, "{before}");

        let shard = EdgeShard::load(directory.path(), None).unwrap();
        assert_eq!(shard.count(CountRequest { filter: None, exact: true }).unwrap(), 400);
        upsert(&shard, 2);
        let point = shard.retrieve(&[PointId::NumId(7)], Some(WithPayloadInterface::Bool(true)), None).unwrap();
        assert_eq!(point[0].payload.as_ref().unwrap().0["round"], json!(2));
    }

    #[test]
    fn a_log_of_one_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("wal")).unwrap();
        for name in ["closed-0", "open-1", "first-index"] {
            fs::write(directory.path().join("wal").join(name), "").unwrap();
        }
        shorten(directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path().join("wal")).unwrap().count(), 3);
    }
}
