//! A stand-in for a Qdrant server or cluster: the part of its gRPC interface and of its nodes' REST services that the index
//! uses, over the loopback, with exact search and nothing on disk. Requests and answers are Qdrant's own messages.

#![allow(
    clippy::wildcard_imports,
    clippy::wildcard_enum_match_arm,
    reason = "most of Qdrant's messages are named here, and the rest of each choice is what is not stood in for"
)]

mod compare;
mod formula;
mod rest;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ::qdrant_client::qdrant::{
    alias_operations::Action,
    collections_server::{Collections, CollectionsServer},
    condition::ConditionOneOf,
    r#match::MatchValue,
    point_id::PointIdOptions,
    points_server::{Points, PointsServer},
    qdrant_server::{Qdrant, QdrantServer},
    value::Kind,
    vector_output, vectors_output, with_payload_selector, with_vectors_selector, *,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use self::compare::{Asked, round, rows};
pub use self::rest::SnapshotFault;

type Answer<T> = Result<Response<T>, Status>;

/// The stand-in. Stops when dropped.
pub struct StandIn {
    address: SocketAddr,
    /// Where the REST service of each node is.
    nodes: Vec<SocketAddr>,
    held: Arc<Mutex<Held>>,
    serving: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Held {
    collections: BTreeMap<String, Collection>,
    aliases: BTreeMap<String, String>,
    /// What the next calls are answered with.
    refusals: VecDeque<Status>,
    /// Whether another loader publishes just before the next change of aliases.
    overtakes_next_switch: bool,
    /// Whether the next change of aliases is made, but not answered well.
    loses_next_switch: bool,
    /// Whether what the next change of aliases points to is removed at once.
    removes_what_is_switched_to: bool,
    /// How many of the next descriptions of collections are of when they were made.
    behind: usize,
    /// A collection no copy of which is whole.
    copyless: Option<String>,
    api_key: Option<String>,
    version: String,
    /// How many points each search wanted.
    wanted: Vec<u64>,
    /// How each search was to be done.
    searches: Vec<SearchCall>,
    /// How many times it was asked how many points pass a filter.
    estimates: usize,
    /// How many segments it says that a collection has; `None`: two for each shard.
    segments: Option<u64>,
    nodes: usize,
    snapshot_fault: SnapshotFault,
}

/// How one vector's nearest were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchCall {
    /// Of how many in each shard, that were found without a filter, a formula said which pass.
    pub among: Option<u64>,
    /// Fewest candidates in hand.
    pub width: Option<u64>,
}

impl SearchCall {
    fn read(query: &QueryPoints) -> Self {
        let among = query.prefetch.first();
        let params = among.map_or(query.params.as_ref(), |among| among.params.as_ref());
        Self { among: among.and_then(|among| among.limit), width: params.and_then(|params| params.hnsw_ef) }
    }
}

#[derive(Debug, Default)]
struct Collection {
    made: CreateCollection,
    shards: usize,
    indexed: BTreeMap<String, i32>,
    /// How many points have come over gRPC.
    upserted: usize,
    /// The nodes, by their place, that have got a shard in a snapshot.
    recovered: BTreeSet<(usize, usize)>,
    points: BTreeMap<String, PointStruct>,
}

impl StandIn {
    /// Starts one of one node that is empty.
    pub async fn start() -> Self {
        Self::start_cluster(1).await
    }

    /// Starts one of so many nodes, each with a shard of every collection and copies of the shards after its own.
    pub async fn start_cluster(nodes: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let held = Arc::new(Mutex::new(Held { version: "1.16.0".to_owned(), nodes, ..Held::default() }));
        let service = Service(Arc::clone(&held));
        let checked = {
            let service = service.clone();
            move |request: Request<()>| service.admit(request)
        };
        let server = Server::builder()
            .add_service(CollectionsServer::with_interceptor(service.clone(), checked.clone()))
            .add_service(PointsServer::with_interceptor(service.clone(), checked.clone()))
            .add_service(QdrantServer::with_interceptor(service, checked))
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        let mut serving = vec![tokio::spawn(async move { server.await.unwrap() })];
        let mut addresses = Vec::new();
        for nth in 0..nodes {
            let port = addresses.first().filter(|_| rest::host(nth) != rest::host(0)).map_or(0, SocketAddr::port);
            let listener = TcpListener::bind((rest::host(nth), port)).await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            serving.push(rest::serve(listener, Arc::clone(&held), nth));
        }
        Self { address, nodes: addresses, held, serving }
    }

    /// Its address, as the index wants it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The addresses of its nodes' REST services.
    pub fn rest_urls(&self) -> Vec<String> {
        self.nodes.iter().map(|address| format!("http://{address}")).collect()
    }

    /// How many points were sent to a collection, and did not come with a snapshot.
    pub fn upserted(&self, collection: &str) -> usize {
        self.held().collections.get(collection).unwrap().upserted
    }

    /// The copies of shards that came in snapshots: the node of each, by its place, and the shard.
    pub fn recovered(&self, collection: &str) -> BTreeSet<(usize, usize)> {
        self.held().collections.get(collection).unwrap().recovered.clone()
    }

    /// Lets the next snapshots be so.
    pub fn spoil_snapshots(&self, fault: SnapshotFault) {
        self.held().snapshot_fault = fault;
    }

    /// Its collections.
    pub fn collections(&self) -> Vec<String> {
        self.held().collections.keys().cloned().collect()
    }

    /// Its aliases, and where each points.
    pub fn aliases(&self) -> BTreeMap<String, String> {
        self.held().aliases.clone()
    }

    /// How many points each search wanted, so far.
    pub fn wanted(&self) -> Vec<u64> {
        self.held().wanted.clone()
    }

    /// How each search since the last call was to be done, and how many times it was asked about how many points pass a filter.
    pub fn take_searches(&self) -> (Vec<SearchCall>, usize) {
        let mut held = self.held();
        (std::mem::take(&mut held.searches), std::mem::take(&mut held.estimates))
    }

    /// Says that a collection has so many segments.
    pub fn say_segments(&self, segments: u64) {
        self.held().segments = Some(segments);
    }

    /// How a collection was asked for.
    pub fn made(&self, collection: &str) -> CreateCollection {
        self.held().collections.get(collection).unwrap().made.clone()
    }

    /// Answers the next calls so, whatever they ask.
    pub fn refuse(&self, refusals: impl IntoIterator<Item = Status>) {
        self.held().refusals.extend(refusals);
    }

    /// How many refusals nobody has got yet.
    pub fn refusals_left(&self) -> usize {
        self.held().refusals.len()
    }

    /// Lets another loader publish just before the next change of aliases: what names the publication changes.
    pub fn overtake_next_switch(&self) {
        self.held().overtakes_next_switch = true;
    }

    /// Makes the next change of aliases, and answers that it is not available.
    pub fn lose_next_switch(&self) {
        self.held().loses_next_switch = true;
    }

    /// Removes what the next change of aliases points to, as a loader does that has found it old a moment before.
    pub fn remove_what_is_switched_to(&self) {
        self.held().removes_what_is_switched_to = true;
    }

    /// Answers so often as a node does that is behind: a collection is as it was made.
    pub fn answer_as_before(&self, times: usize) {
        self.held().behind = times;
    }

    /// Cannot say any more what a collection is like, as a cluster while none of its copies is whole.
    pub fn lose_all_copies(&self, collection: &str) {
        self.held().copyless = Some(collection.to_owned());
    }

    /// Asks every caller for a key.
    pub fn ask_for_key(&self, key: &str) {
        self.held().api_key = Some(key.to_owned());
    }

    /// Says that it is of this version.
    pub fn say_version(&self, version: &str) {
        version.clone_into(&mut self.held().version);
    }

    /// Points an alias, as a person could.
    pub fn point(&self, alias: &str, collection: &str) {
        self.held().aliases.insert(alias.to_owned(), collection.to_owned());
    }

    /// Removes the collections that no alias points to and that were never published, as a loader does.
    pub fn remove_unpublished(&self) {
        let mut held = self.held();
        let serving: BTreeSet<_> = held.aliases.values().cloned().collect();
        let published = |collection: &Collection| collection.made.metadata.contains_key("vitrine_published");
        held.collections.retain(|name, collection| serving.contains(name) || published(collection));
    }

    /// Forgets a product's point, as a broken disk could.
    pub fn forget_a_point(&self, collection: &str) {
        self.held().collections.get_mut(collection).unwrap().points.pop_first();
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.serving.iter().for_each(JoinHandle::abort);
    }
}

#[derive(Clone)]
struct Service(Arc<Mutex<Held>>);

impl Service {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, request: Request<()>) -> Result<Request<()>, Status> {
        let mut held = self.held();
        let key = request.metadata().get("api-key").and_then(|key| key.to_str().ok());
        if held.api_key.is_some() && held.api_key.as_deref() != key {
            return Err(Status::unauthenticated("Must provide an API key or an Authorization bearer token"));
        }
        held.refusals.pop_front().map_or(Ok(request), Err)
    }
}

impl Held {
    /// A collection by its name or an alias.
    fn collection(&mut self, name: &str) -> Result<&mut Collection, Status> {
        let name = self.aliases.get(name).map_or(name, String::as_str).to_owned();
        let missing = || Status::not_found(format!("Not found: Collection `{name}` doesn't exist!"));
        self.collections.get_mut(&name).ok_or_else(missing)
    }

    /// Removes a collection and the aliases that point to it.
    fn remove(&mut self, name: &str) -> bool {
        self.aliases.retain(|_, collection| collection != name);
        self.collections.remove(name).is_some()
    }

    fn change_alias(&mut self, action: Action) -> Result<(), Status> {
        match action {
            Action::CreateAlias(CreateAlias { collection_name, alias_name }) => {
                if !self.collections.contains_key(&collection_name) {
                    return Err(Status::not_found(collection_name));
                }
                if self.collections.contains_key(&alias_name) {
                    return Err(Status::already_exists(alias_name));
                }
                self.aliases.insert(alias_name, collection_name);
            }
            Action::RenameAlias(RenameAlias { old_alias_name, new_alias_name }) => {
                let collection = self.aliases.remove(&old_alias_name);
                let collection =
                    collection.ok_or_else(|| Status::not_found(format!("Alias {old_alias_name} does not exists!")))?;
                self.aliases.insert(new_alias_name, collection);
            }
            Action::DeleteAlias(DeleteAlias { alias_name }) => drop(self.aliases.remove(&alias_name)),
        }
        Ok(())
    }
}

/// Calls that nobody makes.
macro_rules! never_called {
    ($($name:ident($request:ty) -> $answer:ty;)*) => {$(
        fn $name<'life0, 'async_trait>(
            &'life0 self,
            _: Request<$request>,
        ) -> std::pin::Pin<Box<dyn Future<Output = Answer<$answer>> + Send + 'async_trait>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(async { Err(Status::unimplemented(stringify!($name))) })
        }
    )*};
}

#[tonic::async_trait]
impl Qdrant for Service {
    async fn health_check(&self, _: Request<HealthCheckRequest>) -> Answer<HealthCheckReply> {
        let version = self.held().version.clone();
        Ok(Response::new(HealthCheckReply { title: "stand-in".to_owned(), version, commit: None }))
    }
}

fn changed(result: bool) -> Response<CollectionOperationResponse> {
    Response::new(CollectionOperationResponse { result, time: 0.0 })
}

#[tonic::async_trait]
impl Collections for Service {
    async fn get(&self, request: Request<GetCollectionInfoRequest>) -> Answer<GetCollectionInfoResponse> {
        let mut held = self.held();
        let segments_count = held.segments.unwrap_or(2 * u64::try_from(held.nodes).unwrap());
        let name = request.into_inner().collection_name;
        if held.copyless.as_ref() == Some(&name) {
            return Err(Status::internal("Service internal error: 0 of 0 read operations failed"));
        }
        let behind = held.behind > 0;
        held.behind = held.behind.saturating_sub(1);
        let collection = held.collection(&name)?;
        let mut made = collection.made.clone();
        if behind {
            made.metadata.retain(|key, _| ["vitrine", "vitrine_beat"].contains(&key.as_str()));
        }
        let params = CollectionParams {
            vectors_config: made.vectors_config,
            sparse_vectors_config: made.sparse_vectors_config,
            shard_number: u32::try_from(collection.shards).unwrap(),
            ..CollectionParams::default()
        };
        let mut config = CollectionConfig {
            params: Some(params),
            hnsw_config: made.hnsw_config,
            optimizer_config: made.optimizers_config,
            quantization_config: made.quantization_config,
            metadata: made.metadata,
            ..CollectionConfig::default()
        };
        // A server says so of all, unless somebody has said something else.
        if let Some(optimizers) = &mut config.optimizer_config {
            optimizers.default_segment_number.get_or_insert(0);
        }
        let schema = |data_type| PayloadSchemaInfo { data_type, ..PayloadSchemaInfo::default() };
        let result = CollectionInfo {
            status: CollectionStatus::Green.into(),
            segments_count,
            points_count: u64::try_from(collection.points.len()).ok(),
            config: Some(config),
            payload_schema: collection.indexed.iter().map(|(key, kind)| (key.clone(), schema(*kind))).collect(),
            ..CollectionInfo::default()
        };
        Ok(Response::new(GetCollectionInfoResponse { result: Some(result), time: 0.0 }))
    }

    async fn list(&self, _: Request<ListCollectionsRequest>) -> Answer<ListCollectionsResponse> {
        let names = self.held().collections.keys().cloned().collect::<Vec<_>>();
        let collections = names.into_iter().map(|name| CollectionDescription { name }).collect();
        Ok(Response::new(ListCollectionsResponse { collections, time: 0.0 }))
    }

    async fn create(&self, request: Request<CreateCollection>) -> Answer<CollectionOperationResponse> {
        let (made, mut held) = (request.into_inner(), self.held());
        let name = made.collection_name.clone();
        if held.collections.contains_key(&name) {
            return Err(Status::already_exists(format!("Wrong input: Collection `{name}` already exists!")));
        }
        let collection = Collection { made, shards: held.nodes, ..Collection::default() };
        held.collections.insert(name, collection);
        Ok(changed(true))
    }

    async fn update(&self, request: Request<UpdateCollection>) -> Answer<CollectionOperationResponse> {
        let (update, mut held) = (request.into_inner(), self.held());
        let made = &mut held.collection(&update.collection_name)?.made;
        made.metadata.extend(update.metadata);
        if let Some(parts) = update.optimizers_config.and_then(|optimizers| optimizers.default_segment_number) {
            made.optimizers_config.get_or_insert_default().default_segment_number = Some(parts);
        }
        Ok(changed(true))
    }

    async fn delete(&self, request: Request<DeleteCollection>) -> Answer<CollectionOperationResponse> {
        Ok(changed(self.held().remove(&request.into_inner().collection_name)))
    }

    async fn update_aliases(&self, request: Request<ChangeAliases>) -> Answer<CollectionOperationResponse> {
        let mut held = self.held();
        if std::mem::take(&mut held.overtakes_next_switch) {
            let (publication, collection) = held.aliases.iter().find(|(alias, _)| alias.contains('~')).unwrap();
            let (publication, collection) = (publication.clone(), collection.clone());
            held.aliases.remove(&publication);
            held.aliases.insert(format!("{publication}-overtaken"), collection);
        }
        let actions = request.into_inner().actions.into_iter().filter_map(|operation| operation.action);
        // As the server does it: one after the other, until one fails.
        actions.into_iter().try_for_each(|action| held.change_alias(action))?;
        if std::mem::take(&mut held.removes_what_is_switched_to) {
            let (_, gone) = held.aliases.iter().find(|(alias, _)| alias.contains('~')).unwrap();
            let gone = gone.clone();
            held.remove(&gone);
        }
        if std::mem::take(&mut held.loses_next_switch) {
            return Err(Status::unavailable("the connection broke"));
        }
        Ok(changed(true))
    }

    async fn list_aliases(&self, _: Request<ListAliasesRequest>) -> Answer<ListAliasesResponse> {
        let aliases = self.held().aliases.clone().into_iter();
        let aliases = aliases.map(|(alias_name, collection_name)| AliasDescription { alias_name, collection_name });
        Ok(Response::new(ListAliasesResponse { aliases: aliases.collect(), time: 0.0 }))
    }

    async fn collection_cluster_info(
        &self,
        request: Request<CollectionClusterInfoRequest>,
    ) -> Answer<CollectionClusterInfoResponse> {
        let mut held = self.held();
        let (nodes, name) = (held.nodes, request.into_inner().collection_name);
        // What serves stays whole.
        let serves = held.aliases.values().any(|serving| *serving == name);
        let behind = held.snapshot_fault == SnapshotFault::Behind && !serves;
        if behind {
            held.snapshot_fault = SnapshotFault::None;
        }
        let state = if behind { ReplicaState::Initializing } else { ReplicaState::Active }.into();
        let collection = held.collection(&name)?;
        let (mut local_shards, mut remote_shards) = (Vec::new(), Vec::new());
        for shard in 0..nodes {
            let shard_id = u32::try_from(shard).unwrap();
            for node in collection.nodes_of(shard, nodes) {
                let peer_id = rest::peer(node);
                match node {
                    0 => local_shards.push(LocalShardInfo { shard_id, state, ..LocalShardInfo::default() }),
                    _ => remote_shards.push(RemoteShardInfo { shard_id, peer_id, state, shard_key: None }),
                }
            }
        }
        let info = CollectionClusterInfoResponse {
            peer_id: rest::peer(0),
            shard_count: nodes.try_into().unwrap(),
            local_shards,
            remote_shards,
            ..CollectionClusterInfoResponse::default()
        };
        Ok(Response::new(info))
    }

    never_called! {
        list_collection_aliases(ListCollectionAliasesRequest) -> ListAliasesResponse;
        collection_exists(CollectionExistsRequest) -> CollectionExistsResponse;
        update_collection_cluster_setup(UpdateCollectionClusterSetupRequest) -> UpdateCollectionClusterSetupResponse;
        create_shard_key(CreateShardKeyRequest) -> CreateShardKeyResponse;
        delete_shard_key(DeleteShardKeyRequest) -> DeleteShardKeyResponse;
        list_shard_keys(ListShardKeysRequest) -> ListShardKeysResponse;
    }
}

#[tonic::async_trait]
impl Points for Service {
    async fn upsert(&self, request: Request<UpsertPoints>) -> Answer<PointsOperationResponse> {
        let (upsert, mut held) = (request.into_inner(), self.held());
        let collection = held.collection(&upsert.collection_name)?;
        collection.upserted += upsert.points.len();
        for mut point in upsert.points {
            round(&mut point, &collection.made);
            collection.points.insert(name(point.id.as_ref())?, point);
        }
        Ok(Response::new(PointsOperationResponse::default()))
    }

    async fn create_field_index(
        &self,
        request: Request<CreateFieldIndexCollection>,
    ) -> Answer<PointsOperationResponse> {
        let (create, mut held) = (request.into_inner(), self.held());
        let collection = held.collection(&create.collection_name)?;
        if !collection.points.is_empty() {
            return Err(Status::failed_precondition("the index comes after the first point"));
        }
        collection.indexed.insert(create.field_name, create.field_type.unwrap_or_default());
        Ok(Response::new(PointsOperationResponse::default()))
    }

    async fn get(&self, request: Request<GetPoints>) -> Answer<GetResponse> {
        let (get, mut held) = (request.into_inner(), self.held());
        let collection = held.collection(&get.collection_name)?;
        let wanted: BTreeSet<_> = get.ids.iter().filter_map(|id| name(Some(id)).ok()).collect();
        let found = collection.points.iter().filter(|(name, _)| wanted.contains(*name)).map(|(_, point)| point);
        let retrieved = found.map(|point| RetrievedPoint {
            id: point.id.clone(),
            payload: payload(get.with_payload.as_ref(), point),
            vectors: vectors(get.with_vectors.as_ref(), point),
            ..RetrievedPoint::default()
        });
        Ok(Response::new(GetResponse { result: retrieved.collect(), ..GetResponse::default() }))
    }

    async fn scroll(&self, request: Request<ScrollPoints>) -> Answer<ScrollResponse> {
        let (scroll, mut held) = (request.into_inner(), self.held());
        let collection = held.collection(&scroll.collection_name)?;
        let first = scroll.offset.as_ref().map(|id| name(Some(id))).transpose()?.unwrap_or_default();
        let limit = usize::try_from(scroll.limit.unwrap_or(10)).unwrap();
        let mut following = collection.points.range(first..).map(|(_, point)| point);
        let page = following.by_ref().take(limit).map(|point| RetrievedPoint {
            id: point.id.clone(),
            payload: payload(scroll.with_payload.as_ref(), point),
            vectors: vectors(scroll.with_vectors.as_ref(), point),
            ..RetrievedPoint::default()
        });
        let result = page.collect();
        let next_page_offset = following.next().and_then(|point| point.id.clone());
        Ok(Response::new(ScrollResponse { result, next_page_offset, ..ScrollResponse::default() }))
    }

    async fn delete(&self, request: Request<DeletePoints>) -> Answer<PointsOperationResponse> {
        let (delete, mut held) = (request.into_inner(), self.held());
        let wrong = || Status::invalid_argument("no list of names");
        let Some(points_selector::PointsSelectorOneOf::Points(list)) =
            delete.points.and_then(|points| points.points_selector_one_of)
        else {
            return Err(wrong());
        };
        let collection = held.collection(&delete.collection_name)?;
        for id in &list.ids {
            collection.points.remove(&name(Some(id))?);
        }
        Ok(Response::new(PointsOperationResponse::default()))
    }

    async fn count(&self, request: Request<CountPoints>) -> Answer<CountResponse> {
        let (count, mut held) = (request.into_inner(), self.held());
        held.estimates += usize::from(count.exact == Some(false));
        let collection = held.collection(&count.collection_name)?;
        let passing = collection.passing(count.filter.as_ref())?;
        let count = u64::try_from(passing.len()).unwrap();
        Ok(Response::new(CountResponse { result: Some(CountResult { count }), ..CountResponse::default() }))
    }

    async fn query_batch(&self, request: Request<QueryBatchPoints>) -> Answer<QueryBatchResponse> {
        let (batch, mut held) = (request.into_inner(), self.held());
        held.wanted.extend(batch.query_points.iter().filter_map(|query| query.limit));
        held.searches.extend(batch.query_points.iter().map(SearchCall::read));
        let collection = held.collection(&batch.collection_name)?;
        let result = batch.query_points.iter().map(|query| collection.query(query)).collect::<Result<_, Status>>()?;
        Ok(Response::new(QueryBatchResponse { result, ..QueryBatchResponse::default() }))
    }

    never_called! {
        update_vectors(UpdatePointVectors) -> PointsOperationResponse;
        delete_vectors(DeletePointVectors) -> PointsOperationResponse;
        set_payload(SetPayloadPoints) -> PointsOperationResponse;
        overwrite_payload(SetPayloadPoints) -> PointsOperationResponse;
        delete_payload(DeletePayloadPoints) -> PointsOperationResponse;
        clear_payload(ClearPayloadPoints) -> PointsOperationResponse;
        delete_field_index(DeleteFieldIndexCollection) -> PointsOperationResponse;
        create_vector_name(CreateVectorNameRequest) -> PointsOperationResponse;
        delete_vector_name(DeleteVectorNameRequest) -> PointsOperationResponse;
        search(SearchPoints) -> SearchResponse;
        search_batch(SearchBatchPoints) -> SearchBatchResponse;
        search_groups(SearchPointGroups) -> SearchGroupsResponse;
        recommend(RecommendPoints) -> RecommendResponse;
        recommend_batch(RecommendBatchPoints) -> RecommendBatchResponse;
        recommend_groups(RecommendPointGroups) -> RecommendGroupsResponse;
        discover(DiscoverPoints) -> DiscoverResponse;
        discover_batch(DiscoverBatchPoints) -> DiscoverBatchResponse;
        update_batch(UpdateBatchPoints) -> UpdateBatchResponse;
        query(QueryPoints) -> QueryResponse;
        query_groups(QueryPointGroups) -> QueryGroupsResponse;
        facet(FacetCounts) -> FacetResponse;
        search_matrix_pairs(SearchMatrixPoints) -> SearchMatrixPairsResponse;
        search_matrix_offsets(SearchMatrixPoints) -> SearchMatrixOffsetsResponse;
    }
}

impl Collection {
    /// The nodes, by their place, that have a copy of a shard: its own, and those after it.
    fn nodes_of(&self, shard: usize, nodes: usize) -> Vec<usize> {
        let copies = self.made.replication_factor.map_or(1, |copies| usize::try_from(copies).unwrap());
        (0..copies.min(nodes)).map(|nth| (shard + nth) % nodes).filter(|_| shard < nodes).collect()
    }

    /// The shard that a point is in.
    fn shard_of(&self, point: &PointStruct) -> usize {
        let name = name(point.id.as_ref()).unwrap_or_default();
        name.bytes().map(usize::from).sum::<usize>() % self.shards
    }

    fn query(&self, query: &QueryPoints) -> Result<BatchResult, Status> {
        let wrong = || Status::invalid_argument("neither a formula nor the nearest to a vector of a name");
        let variant = query.query.as_ref().and_then(|query| query.variant.as_ref()).ok_or_else(wrong)?;
        let limit = |limit: Option<u64>| usize::try_from(limit.unwrap_or(10)).unwrap();
        let scored = match (variant, query.prefetch.as_slice()) {
            (query::Variant::Formula(formula), [prefetch]) if query.filter.is_none() => {
                let within = prefetch.query.as_ref().and_then(|query| query.variant.as_ref()).ok_or_else(wrong)?;
                let using = prefetch.using.as_ref().ok_or_else(wrong)?;
                // Each shard finds so many.
                let mut left = vec![limit(prefetch.limit); self.shards];
                let found = self.nearest(within, using, prefetch.filter.as_ref())?.into_iter().filter(|(_, point)| {
                    let left = left.get_mut(self.shard_of(point)).unwrap();
                    let is_found = *left > 0;
                    *left = left.saturating_sub(1);
                    is_found
                });
                self.scored_anew(formula, found)?
            }
            (nearest, []) => self.nearest(nearest, query.using.as_ref().ok_or_else(wrong)?, query.filter.as_ref())?,
            _ => return Err(wrong()),
        };
        let scored = scored.into_iter().filter(|(score, _)| query.score_threshold.is_none_or(|least| *score >= least));
        let points = scored.take(limit(query.limit)).map(|(score, point)| ScoredPoint {
            id: point.id.clone(),
            score,
            payload: payload(query.with_payload.as_ref(), point),
            vectors: vectors(query.with_vectors.as_ref(), point),
            ..ScoredPoint::default()
        });
        Ok(BatchResult { result: points.collect() })
    }

    /// All that pass a filter, in the order of their names.
    fn passing(&self, filter: Option<&Filter>) -> Result<Vec<&PointStruct>, Status> {
        let passes = |point: &PointStruct| filter.map_or(Ok(true), |filter| self.holds(filter, point));
        let points = self.points.values().map(|point| Ok(passes(point)?.then_some(point)));
        points.filter_map(Result::transpose).collect()
    }

    /// All that pass and have something of what is asked for, best first, and those that score the same in the order of their
    /// names.
    fn nearest(
        &self,
        query: &query::Variant,
        using: &str,
        filter: Option<&Filter>,
    ) -> Result<Vec<(f32, &PointStruct)>, Status> {
        let asked = Asked::read(self, query, using);
        let asked = asked.ok_or_else(|| Status::invalid_argument(format!("`{using}` is not asked for so")))?;
        let passing = self.passing(filter)?.into_iter();
        let scored = passing.filter_map(|point| Some((asked.score(self.shard_of(point), point, using)?, point)));
        Ok(sorted(scored.collect()))
    }

    fn holds(&self, filter: &Filter, point: &PointStruct) -> Result<bool, Status> {
        let each = |conditions: &[Condition]| {
            let met = conditions.iter().map(|condition| self.meets(condition, point));
            met.collect::<Result<Vec<bool>, Status>>()
        };
        let (must, should, must_not) = (each(&filter.must)?, each(&filter.should)?, each(&filter.must_not)?);
        let any = should.is_empty() || should.contains(&true);
        Ok(!must.contains(&false) && any && !must_not.contains(&true))
    }

    fn meets(&self, condition: &Condition, point: &PointStruct) -> Result<bool, Status> {
        let at = |key: &str| {
            let indexed = self.indexed.contains_key(key).then(|| values(&point.payload, key));
            indexed.ok_or_else(|| Status::invalid_argument(format!("Index required but not found for \"{key}\"")))
        };
        match condition.condition_one_of.as_ref() {
            Some(ConditionOneOf::Filter(filter)) => self.holds(filter, point),
            Some(ConditionOneOf::HasId(ids)) => Ok(point.id.as_ref().is_some_and(|id| ids.has_id.contains(id))),
            Some(ConditionOneOf::IsEmpty(empty)) => Ok(at(&empty.key)?.is_empty()),
            Some(ConditionOneOf::Field(FieldCondition { key, r#match: Some(wanted), .. })) => {
                Ok(at(key)?.into_iter().any(|value| matches(wanted, &value)))
            }
            Some(ConditionOneOf::Field(FieldCondition { key, range: Some(range), .. })) => {
                Ok(at(key)?.into_iter().any(|value| within(range, &value)))
            }
            other => Err(Status::unimplemented(format!("{other:?}"))),
        }
    }
}

/// Best first.
fn sorted(mut scored: Vec<(f32, &PointStruct)>) -> Vec<(f32, &PointStruct)> {
    scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    scored
}

fn name(id: Option<&PointId>) -> Result<String, Status> {
    match id.and_then(|id| id.point_id_options.as_ref()) {
        Some(PointIdOptions::Uuid(uuid)) => Ok(uuid.clone()),
        other => Err(Status::invalid_argument(format!("{other:?} is no UUID"))),
    }
}

/// The values at a key, those of a list one by one.
fn values(payload: &HashMap<String, Value>, key: &str) -> Vec<Kind> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let here = payload.get(first).and_then(|value| value.kind.clone());
    match (here, rest) {
        (Some(Kind::StructValue(below)), Some(rest)) => values(&below.fields, rest),
        (Some(Kind::ListValue(list)), None) => list.values.into_iter().filter_map(|value| value.kind).collect(),
        (Some(Kind::NullValue(_)) | None, _) | (_, Some(_)) => Vec::new(),
        (Some(value), None) => vec![value],
    }
}

fn matches(wanted: &Match, value: &Kind) -> bool {
    match (wanted.match_value.as_ref(), value) {
        (Some(MatchValue::Keyword(wanted)), Kind::StringValue(text)) => wanted == text,
        (Some(MatchValue::Keywords(wanted)), Kind::StringValue(text)) => wanted.strings.contains(text),
        (Some(MatchValue::Integer(wanted)), Kind::IntegerValue(number)) => wanted == number,
        (Some(MatchValue::Integers(wanted)), Kind::IntegerValue(number)) => wanted.integers.contains(number),
        (Some(MatchValue::Boolean(wanted)), Kind::BoolValue(yes)) => wanted == yes,
        _ => false,
    }
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "Qdrant's ranges are of f64")]
fn within(range: &Range, value: &Kind) -> bool {
    let number = match value {
        Kind::IntegerValue(number) => *number as f64,
        Kind::DoubleValue(number) => *number,
        _ => return false,
    };
    range.gte.is_none_or(|limit| number >= limit)
        && range.gt.is_none_or(|limit| number > limit)
        && range.lte.is_none_or(|limit| number <= limit)
        && range.lt.is_none_or(|limit| number < limit)
}

fn payload(selector: Option<&WithPayloadSelector>, point: &PointStruct) -> HashMap<String, Value> {
    match selector.and_then(|selector| selector.selector_options.as_ref()) {
        Some(with_payload_selector::SelectorOptions::Enable(true)) => point.payload.clone(),
        Some(with_payload_selector::SelectorOptions::Include(include)) => {
            let included = point.payload.iter().filter(|(name, _)| include.fields.contains(name));
            included.map(|(name, value)| (name.clone(), value.clone())).collect()
        }
        _ => HashMap::new(),
    }
}

fn vectors(selector: Option<&WithVectorsSelector>, point: &PointStruct) -> Option<VectorsOutput> {
    let asked = selector.and_then(|selector| selector.selector_options.as_ref());
    let Some(with_vectors_selector::SelectorOptions::Enable(true)) = asked else { return None };
    let dense = |data| DenseVector { data };
    let image = rows(point, "image").into_iter().map(dense).collect();
    let text = rows(point, "text").pop().map(dense)?;
    let outputs = [
        ("image", vector_output::Vector::MultiDense(MultiDenseVector { vectors: image })),
        ("text", vector_output::Vector::Dense(text)),
    ];
    let output =
        |(name, vector): (&str, _)| (name.to_owned(), VectorOutput { vector: Some(vector), ..Default::default() });
    let named = NamedVectorsOutput { vectors: outputs.into_iter().map(output).collect() };
    Some(VectorsOutput { vectors_options: Some(vectors_output::VectorsOptions::Vectors(named)) })
}
