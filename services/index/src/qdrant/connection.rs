//! Calls of a Qdrant server: what is tried again, and what an answer means.

use std::{collections::BTreeMap, fmt, time::Duration};

use qdrant_client::{
    Qdrant, QdrantError,
    qdrant::{
        AliasOperations, ChangeAliases, CollectionInfo, CountPoints, CreateCollection, CreateFieldIndexCollection,
        DeleteCollection, DeletePoints, FieldType, Filter, GetPoints, OptimizersConfigDiff, PayloadIncludeSelector,
        PointId, PointStruct, QueryBatchPoints, QueryPoints, ReplicaState, ScrollPoints, ScrollResponse,
        UpdateCollection, UpsertPoints, Value, WithPayloadSelector, collections_client::CollectionsClient,
        with_payload_selector::SelectorOptions,
    },
};
use tonic::{
    Code,
    metadata::{Ascii, MetadataValue},
    transport::{ClientTlsConfig, Endpoint},
};
use uuid::Uuid;
use vitrine_core::{Chain, index::IndexError, meter};

use super::{
    address::ServerUrl,
    description::Description,
    nodes::Peer,
    options::QdrantOptions,
    point::{Found, read_id},
};
use crate::{
    error::{failed, unavailable},
    payload::DIGEST,
};

/// The oldest server that keeps metadata with a collection.
const VERSION_MIN: (u32, u32) = (1, 16);
/// Pauses before a query is tried again: a replica that just went away is noticed within them, a person still waits.
const READ_PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(100)];
/// Pauses before a change is tried again, which may be made twice: about as long as a node takes to start anew.
const WRITE_PAUSES: [Duration; 7] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(30),
];
/// Pauses between looks at what a node that is behind may not know yet: a node takes over what others agreed on within them.
const BEHIND_PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1500)];

/// A Qdrant server.
#[derive(Clone)]
pub(super) struct Connection {
    client: Qdrant,
    /// For what the client cannot do.
    endpoint: Endpoint,
    api_key: Option<MetadataValue<Ascii>>,
    url: ServerUrl,
    /// How long what only reads is tried again.
    reads: Again,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client knows the key.
        f.debug_struct("Connection").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What a server said instead of an answer, or that it said nothing.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {what}")]
pub(super) struct Refusal {
    url: ServerUrl,
    what: String,
    code: Code,
    /// For how long it wants to be left alone.
    pause: Option<Duration>,
}

impl Refusal {
    /// Whether it holds nothing of that name.
    pub(super) fn is_not_found(&self) -> bool {
        self.code == Code::NotFound
    }

    /// Whether it has more to do than it will do.
    pub(super) fn is_overloaded(&self) -> bool {
        self.code == Code::ResourceExhausted
    }

    /// Whether the same call may be answered later.
    fn may_pass(&self, again: Again) -> bool {
        match self.code {
            // `Internal` and `Unknown` are what the client makes of a connection that cannot be made or breaks.
            Code::Unavailable | Code::Internal | Code::Unknown | Code::Aborted => true,
            // A query that took too long is not asked again of a server that is busy with it.
            Code::Cancelled | Code::DeadlineExceeded | Code::ResourceExhausted => again == Again::Write,
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::DataLoss
            | Code::Unauthenticated => false,
        }
    }
}

/// What may be tried again, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// Nothing: twice is not the same as once.
    Never,
    /// It changes nothing.
    Read,
    /// Made twice, it is as if made once.
    Write,
}

impl Again {
    fn pauses(self) -> &'static [Duration] {
        match self {
            Self::Never => &[],
            Self::Read => &READ_PAUSES,
            Self::Write => &WRITE_PAUSES,
        }
    }
}

/// A copy of a shard of a collection.
pub(super) struct ShardCopy {
    pub(super) shard: u32,
    /// The node that it is on.
    pub(super) peer: Peer,
    pub(super) whole: bool,
}

impl Connection {
    /// For a server that is not called yet.
    pub(super) fn new(options: &QdrantOptions) -> Result<Self, IndexError> {
        const CONTEXT: &str = "prepare the connection to the index";
        if options.api_key.is_some() && options.url.is_in_the_open() {
            tracing::warn!(url = %options.url, "the index's key is sent without TLS; use https");
        }
        let mut config = Qdrant::from_url(&options.url.to_string())
            .timeout(options.timeout)
            .connect_timeout(options.timeout)
            .keep_alive_while_idle()
            // It would print what it finds; `check_version` does it better.
            .skip_compatibility_check();
        config.set_pool_size(options.connections);
        config.api_key = options.api_key.as_ref().map(super::options::ApiKey::reveal);
        let client = config.build().map_err(failed(CONTEXT))?;
        let mut endpoint = Endpoint::from_shared(options.url.to_string()).map_err(failed(CONTEXT))?;
        endpoint = endpoint.timeout(options.timeout).connect_timeout(options.timeout);
        if options.url.is_tls() {
            let tls = ClientTlsConfig::new().with_native_roots();
            endpoint = endpoint.tls_config(tls).map_err(failed(CONTEXT))?;
        }
        let api_key = options.api_key.as_ref().map(|key| MetadataValue::try_from(key.reveal())).transpose();
        let mut api_key = api_key.map_err(failed(CONTEXT))?;
        if let Some(key) = &mut api_key {
            key.set_sensitive(true);
        }
        Ok(Self { client, endpoint, api_key, url: options.url.clone(), reads: Again::Read })
    }

    /// The same, for work of hours that must outlast a node that starts anew.
    pub(super) fn patient(&self) -> Self {
        Self { reads: Again::Write, ..self.clone() }
    }

    /// Its address.
    pub(super) fn url(&self) -> &ServerUrl {
        &self.url
    }

    async fn call<T, Answer>(&self, again: Again, call: impl Fn() -> Answer) -> Result<T, Refusal>
    where
        Answer: Future<Output = Result<T, QdrantError>>,
    {
        let mut pauses = again.pauses().iter();
        loop {
            let refusal = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => self.refusal(error),
            };
            match pauses.next() {
                Some(pause) if refusal.may_pass(again) => {
                    // A little more or less, so that not everybody comes back at once.
                    let pause = pause.mul_f64(0.75 + fastrand::f64() / 2.0).max(refusal.pause.unwrap_or_default());
                    tracing::debug!(%refusal, pause_ms = pause.as_millis(), "trying again");
                    tokio::time::sleep(pause).await;
                }
                _ => return Err(refusal),
            }
        }
    }

    fn refusal(&self, error: QdrantError) -> Refusal {
        let url = self.url.clone();
        let (status, pause) = match error {
            QdrantError::ResponseError { status } => (status, None),
            QdrantError::ResourceExhaustedError { status, retry_after_seconds } => {
                // A minute: who asks for longer is tried all the same.
                (status, Some(Duration::from_secs(retry_after_seconds.min(60))))
            }
            other @ (QdrantError::ConversionError(_)
            | QdrantError::InvalidUri(_)
            | QdrantError::NoSnapshotFound(_)
            | QdrantError::Io(_)
            | QdrantError::JsonToPayload(_)
            | QdrantError::PayloadDeserialization(_)) => {
                return Refusal { url, what: other.to_string(), code: Code::DataLoss, pause: None };
            }
        };
        let what = format!("{} ({})", status.message(), status.code().description());
        Refusal { url, what, code: status.code(), pause }
    }

    /// Refuses a server that is too old.
    pub(super) async fn check_version(&self) -> Result<(), IndexError> {
        const CONTEXT: &str = "look at the index's version";
        let reply = self.call(Again::Read, || self.client.health_check()).await.map_err(failed(CONTEXT))?;
        let mut parts = reply.version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
        let found = parts.next().zip(parts.next());
        if found.is_none_or(|found| found < VERSION_MIN) {
            let (major, minor) = VERSION_MIN;
            let reason = format!("{} runs Qdrant {}, which is older than {major}.{minor}", self.url, reply.version);
            return Err(unavailable(CONTEXT, reason));
        }
        Ok(())
    }

    /// All aliases, and the collection that each points to.
    pub(super) async fn aliases(&self) -> Result<BTreeMap<String, String>, IndexError> {
        let answer = self.call(self.reads, || self.client.list_aliases()).await;
        let answer = answer.map_err(failed("list the catalogues"))?;
        Ok(answer.aliases.into_iter().map(|alias| (alias.alias_name, alias.collection_name)).collect())
    }

    /// The names of all collections.
    pub(super) async fn collections(&self) -> Result<Vec<String>, IndexError> {
        let answer = self.call(self.reads, || self.client.list_collections()).await;
        let answer = answer.map_err(failed("list the generations"))?;
        Ok(answer.collections.into_iter().map(|collection| collection.name).collect())
    }

    /// A collection's state; `None` if there is none of that name.
    pub(super) async fn describe(&self, collection: &str) -> Result<Option<CollectionInfo>, IndexError> {
        match self.call(self.reads, || self.client.collection_info(collection)).await {
            Ok(answer) => Ok(answer.result),
            Err(refusal) if refusal.is_not_found() => Ok(None),
            Err(refusal) => Err(unavailable(format!("look at {collection}"), refusal)),
        }
    }

    /// What a generation is made of; `None` if it is none.
    pub(super) async fn description(&self, collection: &str) -> Result<Option<Description>, IndexError> {
        self.describe(collection).await?.and_then(Description::read).transpose()
    }

    /// What a generation is made of, as soon as that is as wanted, or as it is after two seconds; `None` if it is none. In a
    /// cluster, a node that is behind may be the first to answer, with what was.
    pub(super) async fn describe_when(
        &self,
        collection: &str,
        is_wanted: impl Fn(&Description) -> bool,
    ) -> Result<Option<Description>, IndexError> {
        let mut pauses = BEHIND_PAUSES.iter();
        loop {
            let described = self.description(collection).await?;
            match pauses.next() {
                Some(pause) if described.as_ref().is_some_and(|described| !is_wanted(described)) => {
                    tokio::time::sleep(*pause).await;
                }
                Some(_) | None => return Ok(described),
            }
        }
    }

    /// The copies of each shard of a collection.
    pub(super) async fn copies(&self, collection: &str) -> Result<Vec<ShardCopy>, IndexError> {
        let answer = self.call(self.reads, || self.client.collection_cluster_info(collection)).await;
        let answer = answer.map_err(failed(format!("look at the shards of {collection}")))?;
        let copy = |shard, peer, state| {
            let whole = ReplicaState::try_from(state) == Ok(ReplicaState::Active);
            ShardCopy { shard, peer, whole }
        };
        let local = answer.local_shards.iter().map(|shard| copy(shard.shard_id, answer.peer_id, shard.state));
        let remote = answer.remote_shards.iter().map(|shard| copy(shard.shard_id, shard.peer_id, shard.state));
        Ok(local.chain(remote).collect())
    }

    /// Makes a collection. Fails if there is one of that name.
    pub(super) async fn create(&self, collection: &CreateCollection) -> Result<(), Refusal> {
        self.call(Again::Never, || self.client.create_collection(collection.clone())).await.map(drop)
    }

    pub(super) async fn index_field(&self, collection: &str, key: &str, field: FieldType) -> Result<(), Refusal> {
        let create = CreateFieldIndexCollection {
            collection_name: collection.to_owned(),
            wait: Some(true),
            field_name: key.to_owned(),
            field_type: Some(field.into()),
            ..CreateFieldIndexCollection::default()
        };
        self.call(Again::Write, || self.client.create_field_index(create.clone())).await.map(drop)
    }

    /// Sets some of a collection's metadata; the rest stays.
    pub(super) async fn set_metadata(
        &self,
        collection: &str,
        metadata: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> Result<(), Refusal> {
        let metadata = metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let update =
            UpdateCollection { collection_name: collection.to_owned(), metadata, ..UpdateCollection::default() };
        self.call(Again::Write, || self.client.update_collection(update.clone())).await.map(drop)
    }

    /// Lets the server join segments of a shard only when there are more than so many.
    pub(super) async fn set_segments(&self, collection: &str, segments: u64) -> Result<(), Refusal> {
        let optimizers =
            OptimizersConfigDiff { default_segment_number: Some(segments), ..OptimizersConfigDiff::default() };
        let update = UpdateCollection {
            collection_name: collection.to_owned(),
            optimizers_config: Some(optimizers),
            ..UpdateCollection::default()
        };
        self.call(Again::Write, || self.client.update_collection(update.clone())).await.map(drop)
    }

    /// Removes a collection and the aliases that point to it, if it is there.
    pub(super) async fn delete(&self, collection: &str) -> Result<(), Refusal> {
        let delete = DeleteCollection { collection_name: collection.to_owned(), ..DeleteCollection::default() };
        match self.call(Again::Write, || self.client.delete_collection(delete.clone())).await {
            Err(refusal) if !refusal.is_not_found() => Err(refusal),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Changes aliases in this order, none if the first cannot be changed.
    pub(super) async fn change_aliases(&self, actions: Vec<AliasOperations>) -> Result<(), Refusal> {
        let change = ChangeAliases { actions, timeout: None };
        // The client has no call for several actions at once.
        self.call(Again::Never, || async {
            let mut request = tonic::Request::new(change.clone());
            if let Some(key) = &self.api_key {
                request.metadata_mut().insert("api-key", key.clone());
            }
            let channel = self.endpoint.connect().await;
            let channel = channel.map_err(|error| tonic::Status::unavailable(Chain(&error).to_string()))?;
            Ok(CollectionsClient::new(channel).update_aliases(request).await?)
        })
        .await
        .map(drop)
    }

    /// Adds points, in place of those that have the same names.
    pub(super) async fn upsert(&self, collection: &str, points: Vec<PointStruct>) -> Result<(), Refusal> {
        let upsert = UpsertPoints {
            collection_name: collection.to_owned(),
            wait: Some(true),
            points,
            ..UpsertPoints::default()
        };
        self.call(Again::Write, || self.client.upsert_points(upsert.clone())).await.map(drop)
    }

    /// Removes points, if they are there.
    pub(super) async fn remove(&self, collection: &str, ids: &[Uuid]) -> Result<(), Refusal> {
        let ids: Vec<_> = ids.iter().map(|id| PointId::from(id.to_string())).collect();
        let delete = DeletePoints {
            collection_name: collection.to_owned(),
            wait: Some(true),
            points: Some(ids.into()),
            ..DeletePoints::default()
        };
        self.call(Again::Write, || self.client.delete_points(delete.clone())).await.map(drop)
    }

    /// How many points a collection has.
    pub(super) async fn count(&self, collection: &str) -> Result<usize, Refusal> {
        self.count_passing(collection, None).await.map(|(count, _)| count)
    }

    /// About how many points of a collection pass a filter.
    pub(super) async fn estimate(&self, collection: &str, filter: Filter) -> Result<usize, Refusal> {
        let (count, seconds) = self.count_passing(collection, Some(filter)).await?;
        record(seconds);
        Ok(count)
    }

    /// How many points pass a filter, about, or how many there are, exactly; and what that took the server, in seconds.
    async fn count_passing(&self, collection: &str, filter: Option<Filter>) -> Result<(usize, f64), Refusal> {
        let exact = Some(filter.is_none());
        let count = CountPoints { collection_name: collection.to_owned(), filter, exact, ..CountPoints::default() };
        let answer = self.call(self.reads, || self.client.count(count.clone())).await?;
        let count = answer.result.and_then(|result| usize::try_from(result.count).ok()).unwrap_or(0);
        Ok((count, answer.time))
    }

    /// What each query finds.
    pub(super) async fn query(
        &self,
        collection: &str,
        queries: Vec<QueryPoints>,
    ) -> Result<Result<Vec<Vec<(Found, f32)>>, IndexError>, Refusal> {
        let batch = QueryBatchPoints {
            collection_name: collection.to_owned(),
            query_points: queries,
            ..QueryBatchPoints::default()
        };
        let answer = self.call(self.reads, || self.client.query_batch(batch.clone())).await?;
        record(answer.time);
        let lists = answer.result.into_iter();
        Ok(lists.map(|list| list.result.into_iter().map(Found::scored).collect()).collect())
    }

    /// The points of these names that are there, with payload and vectors.
    pub(super) async fn retrieve(
        &self,
        collection: &str,
        ids: &[Uuid],
    ) -> Result<Result<Vec<Found>, IndexError>, Refusal> {
        self.get(collection, ids, true.into(), true).await
    }

    /// The same, with what they were made of and nothing else.
    pub(super) async fn retrieve_digests(
        &self,
        collection: &str,
        ids: &[Uuid],
    ) -> Result<Result<Vec<Found>, IndexError>, Refusal> {
        let digest = SelectorOptions::Include(PayloadIncludeSelector { fields: vec![DIGEST.to_owned()] });
        self.get(collection, ids, WithPayloadSelector { selector_options: Some(digest) }, false).await
    }

    async fn get(
        &self,
        collection: &str,
        ids: &[Uuid],
        payload: WithPayloadSelector,
        vectors: bool,
    ) -> Result<Result<Vec<Found>, IndexError>, Refusal> {
        let get = GetPoints {
            collection_name: collection.to_owned(),
            ids: ids.iter().map(|id| PointId::from(id.to_string())).collect(),
            with_payload: Some(payload),
            with_vectors: Some(vectors.into()),
            ..GetPoints::default()
        };
        let answer = self.call(self.reads, || self.client.get_points(get.clone())).await?;
        Ok(answer.result.into_iter().map(Found::retrieved).collect())
    }

    /// The point of this name or the next one, or the first of all, and those that follow, with payload and vectors.
    pub(super) async fn scroll(
        &self,
        collection: &str,
        first: Option<Uuid>,
        limit: usize,
    ) -> Result<Result<Vec<Found>, IndexError>, Refusal> {
        let answer = self.scroll_with(collection, first, limit, true).await?;
        Ok(answer.result.into_iter().map(Found::retrieved).collect())
    }

    /// The same, their names only, and that of the one after them.
    pub(super) async fn scroll_ids(
        &self,
        collection: &str,
        first: Option<Uuid>,
        limit: usize,
    ) -> Result<Result<(Vec<Uuid>, Option<Uuid>), IndexError>, Refusal> {
        let answer = self.scroll_with(collection, first, limit, false).await?;
        let ids = answer.result.into_iter().map(|point| read_id(point.id)).collect::<Result<_, _>>();
        let next = answer.next_page_offset.map(|id| read_id(Some(id))).transpose();
        Ok(ids.and_then(|ids| Ok((ids, next?))))
    }

    async fn scroll_with(
        &self,
        collection: &str,
        first: Option<Uuid>,
        limit: usize,
        all: bool,
    ) -> Result<ScrollResponse, Refusal> {
        let scroll = ScrollPoints {
            collection_name: collection.to_owned(),
            offset: first.map(|id| PointId::from(id.to_string())),
            limit: Some(u32::try_from(limit).unwrap_or(u32::MAX)),
            with_payload: Some(all.into()),
            with_vectors: Some(all.into()),
            ..ScrollPoints::default()
        };
        self.call(self.reads, || self.client.scroll(scroll.clone())).await
    }
}

/// Records how many seconds the server says that a query took.
fn record(seconds: f64) {
    meter::index_queried(Duration::try_from_secs_f64(seconds).unwrap_or_default());
}
