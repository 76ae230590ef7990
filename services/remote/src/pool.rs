//! The endpoints of a pool: which of them are healthy and run the pool's model, and which is asked next.
//!
//! Each endpoint is followed by a task: it asks for the model, then watches `grpc.health.v1`. One that fails, by its
//! health or by a call, is left out for a pause that doubles as long as it goes on failing, and is then asked for its
//! model again before anything else. Among the healthy ones, that with the fewest inputs under way is asked.
//!
//! tonic's own balanced channel does none of this: it knows no health, counts nothing under way, and does not say who
//! answered, without which nobody can be left out for what he answered, or asked second.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use tonic::Status;
use vitrine_core::{
    embed::{EmbedError, ModelInfo},
    meter,
};

use crate::member::Member;

/// Pause before an endpoint that failed is asked again, doubled each time. 100 ms: a call that breaks with its
/// connection is worth one new connection at once.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest such pause: how long an endpoint that is back may go unnoticed. One that was healthy for that long begins
/// again with the shortest.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Longest wait for the model, and for the first word about health.
const ASK_MAX: Duration = Duration::from_secs(5);
/// How long callers wait for an endpoint after the last healthy one failed; later ones are refused at once. 1 s: the
/// shortest pause and what connecting takes.
const AWAY_GRACE: Duration = Duration::from_secs(1);
/// How long endpoints are waited for that come earlier in the list than the first that said its model.
const DECISION_WAIT: Duration = Duration::from_secs(1);
/// How often a start that waits says so.
const WAITING_SAID_EVERY: Duration = Duration::from_secs(30);

/// The endpoints.
pub(crate) struct Pool {
    pub(crate) name: Arc<str>,
    /// Longest wait for one answer.
    pub(crate) timeout: Duration,
    endpoints: Vec<Endpoint>,
    model: OnceLock<ModelInfo>,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// Whose turn it is among those with as much to do.
    turn: AtomicUsize,
}

struct Endpoint {
    /// For the log.
    address: String,
    member: Box<dyn Member>,
    /// Inputs that it is working on for this process.
    under_way: AtomicUsize,
    /// Tells its task that a call failed.
    failed: Notify,
}

struct State {
    endpoints: Vec<Record>,
    /// Since when there has been no healthy endpoint.
    away_since: Option<Instant>,
}

/// What is known of an endpoint.
struct Record {
    condition: Condition,
    since: Instant,
    /// How often it was healthy: a call that began before it was left out says nothing about it afterwards.
    times_healthy: u64,
    /// Since it was last healthy for long.
    failures: u32,
    /// What it said when it was first asked for its model.
    said: Said,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    /// Not asked yet.
    Unknown,
    /// Asked for vectors.
    Healthy,
    /// It says itself that it cannot embed.
    NotServing,
    /// It does not answer, or wrongly.
    Failing(String),
    /// It runs another model than the pool.
    OtherModel(ModelInfo),
}

/// What an endpoint said of its model.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    /// It was not asked yet.
    NotAsked,
    /// It did not say.
    Nothing,
    /// The model that it runs.
    Model(ModelInfo),
}

impl Said {
    fn model(self) -> Option<ModelInfo> {
        match self {
            Self::Model(model) => Some(model),
            Self::NotAsked | Self::Nothing => None,
        }
    }
}

/// The right to make one call of an endpoint. Its inputs count as under way until it is dropped.
pub(crate) struct Lease {
    pool: Arc<Pool>,
    pub(crate) endpoint: usize,
    times_healthy: u64,
    size: usize,
}

impl Lease {
    pub(crate) fn member(&self) -> Option<&dyn Member> {
        Some(&*self.pool.endpoints.get(self.endpoint)?.member)
    }

    /// Its address, for the log.
    pub(crate) fn address(&self) -> &str {
        self.pool.endpoints.get(self.endpoint).map_or("", |endpoint| &endpoint.address)
    }

    /// Leaves the endpoint out, since the call failed.
    pub(crate) fn failed(&self, reason: String) {
        self.leave_out(Condition::Failing(reason));
    }

    /// Leaves the endpoint out, since it answered with the vectors of another model.
    pub(crate) fn answered_with(&self, model: ModelInfo) {
        self.leave_out(Condition::OtherModel(model));
    }

    fn leave_out(&self, condition: Condition) {
        if self.pool.leave_out(self.endpoint, condition, Some(self.times_healthy))
            && let Some(endpoint) = self.pool.endpoints.get(self.endpoint)
        {
            endpoint.failed.notify_one();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(endpoint) = self.pool.endpoints.get(self.endpoint) {
            endpoint.under_way.fetch_sub(self.size, Ordering::Relaxed);
        }
    }
}

impl Pool {
    /// Nobody is asked before [`Pool::follow`].
    pub(crate) fn new(name: Arc<str>, timeout: Duration, members: Vec<(String, Box<dyn Member>)>) -> Arc<Self> {
        let now = Instant::now();
        let record = |_| Record {
            condition: Condition::Unknown,
            since: now,
            times_healthy: 0,
            failures: 0,
            said: Said::NotAsked,
        };
        let records = (0..members.len()).map(record).collect();
        let endpoint =
            |(address, member)| Endpoint { address, member, under_way: AtomicUsize::new(0), failed: Notify::new() };
        (0..members.len()).for_each(|endpoint| meter::pool_healthy(endpoint, false));
        Arc::new(Self {
            name,
            timeout,
            endpoints: members.into_iter().map(endpoint).collect(),
            model: OnceLock::new(),
            state: Mutex::new(State { endpoints: records, away_since: Some(now) }),
            changed: watch::Sender::new(()),
            turn: AtomicUsize::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock leaves the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many endpoints there are.
    pub(crate) fn size(&self) -> usize {
        self.endpoints.len()
    }

    /// How many are healthy.
    pub(crate) fn healthy(&self) -> usize {
        self.lock().endpoints.iter().filter(|record| record.condition == Condition::Healthy).count()
    }

    /// The pool's model, once that is decided.
    pub(crate) fn model(&self) -> Option<&ModelInfo> {
        self.model.get()
    }

    /// That it is away, and why.
    pub(crate) fn away(&self) -> EmbedError {
        EmbedError::PoolAway { pool: Arc::clone(&self.name), reason: self.describe() }
    }

    /// What is wrong with each endpoint.
    fn describe(&self) -> String {
        let state = self.lock();
        let each = self.endpoints.iter().zip(&state.endpoints).map(|(endpoint, record)| {
            let condition = match &record.condition {
                Condition::Unknown => "has not answered yet".to_owned(),
                Condition::Healthy => "answers".to_owned(),
                Condition::NotServing => "says that it cannot embed".to_owned(),
                Condition::Failing(reason) => reason.clone(),
                Condition::OtherModel(model) => format!("runs another model, {}", model.fingerprint),
            };
            format!("{}: {condition}", endpoint.address)
        });
        each.collect::<Vec<_>>().join("; ")
    }

    /// The healthy endpoint with the least to do, for so many inputs; waits a moment for one if the last has just
    /// failed.
    ///
    /// # Errors
    /// [`EmbedError::PoolAway`].
    pub(crate) async fn pick(self: &Arc<Self>, size: usize) -> Result<Lease, EmbedError> {
        loop {
            let mut changed = self.changed.subscribe();
            if let Some(lease) = self.pick_now(size, None) {
                return Ok(lease);
            }
            let since = self.lock().away_since;
            let Some(since) = since else { continue };
            if timeout_at(since + AWAY_GRACE, changed.changed()).await.is_err() {
                return Err(self.away());
            }
        }
    }

    /// The same, of those that are healthy now, without `not`.
    pub(crate) fn pick_now(self: &Arc<Self>, size: usize, not: Option<usize>) -> Option<Lease> {
        let state = self.lock();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.endpoints.len();
        let in_turn = (0..count).map(|step| turn.wrapping_add(step) % count).filter(|index| Some(*index) != not);
        let healthy = in_turn.filter_map(|index| {
            let (endpoint, record) = (self.endpoints.get(index)?, state.endpoints.get(index)?);
            (record.condition == Condition::Healthy).then_some((index, endpoint, record))
        });
        let (index, endpoint, record) =
            healthy.min_by_key(|(_, endpoint, _)| endpoint.under_way.load(Ordering::Relaxed))?;
        endpoint.under_way.fetch_add(size, Ordering::Relaxed);
        Some(Lease { pool: Arc::clone(self), endpoint: index, times_healthy: record.times_healthy, size })
    }

    /// Waits until one endpoint has said its model and is healthy; says in the log that it waits. The model of the
    /// first in the list is the pool's, as long as that one is not far behind the others.
    pub(crate) async fn ready(&self) -> ModelInfo {
        let (mut changed, mut decision) = (self.changed.subscribe(), None);
        let mut said_next = Instant::now() + DECISION_WAIT;
        loop {
            if self.model.get().is_none() {
                self.decide(&mut decision);
            }
            if let Some(model) = self.model.get().filter(|_| self.healthy() > 0) {
                return model.clone();
            }
            let until = decision.map_or(said_next, |decision: Instant| decision.min(said_next));
            let _ = timeout_at(until, changed.changed()).await;
            if Instant::now() >= said_next {
                tracing::warn!(pool = %self.name, "waiting for the embedding pool: {}", self.describe());
                said_next = Instant::now() + WAITING_SAID_EVERY;
            }
        }
    }

    /// Decides for a model if it can be decided; else notes until when to wait for those earlier in the list.
    fn decide(&self, decision: &mut Option<Instant>) {
        let first = {
            let state = self.lock();
            let said = state.endpoints.iter().map(|record| record.said.clone());
            let mut outstanding = false;
            let first = said.into_iter().find_map(|said| {
                outstanding |= said == Said::NotAsked;
                said.model()
            });
            first.map(|model| (model, outstanding))
        };
        let Some((model, outstanding)) = first else { return };
        let until = *decision.get_or_insert_with(|| Instant::now() + DECISION_WAIT);
        if !outstanding || Instant::now() >= until {
            *decision = None;
            // Nobody else decides.
            drop(self.model.set(model));
            self.changed.send_replace(());
        }
    }

    /// Follows an endpoint for as long as the pool is used.
    pub(crate) async fn follow(&self, index: usize) {
        let Some(endpoint) = self.endpoints.get(index) else { return };
        loop {
            // Whatever failed before was about a connection that is not used any more.
            let _ = endpoint.failed.notified().now_or_never();
            if let Some(condition) = self.follow_once(index, endpoint).await {
                self.leave_out(index, condition, None);
            }
            let failures = self.lock().endpoints.get(index).map_or(1, |record| record.failures);
            sleep(pause(failures)).await;
        }
    }

    /// Follows an endpoint until it is to be left out. Out: why, unless that was said already.
    async fn follow_once(&self, index: usize, endpoint: &Endpoint) -> Option<Condition> {
        let model = match in_time(endpoint.member.model()).await {
            Ok(model) => model,
            Err(reason) => {
                self.said(index, None);
                return Some(Condition::Failing(reason));
            }
        };
        self.said(index, Some(model.clone()));
        if *self.decided().await != model {
            return Some(Condition::OtherModel(model));
        }
        let statuses = async {
            let mut statuses = endpoint.member.watch().await?;
            let first = statuses.next().await.unwrap_or_else(|| Err(no_word()))?;
            Ok((first, statuses))
        };
        let (first, mut statuses) = match in_time(statuses).await {
            Ok(answer) => answer,
            Err(reason) => return Some(Condition::Failing(reason)),
        };
        self.serves(index, first);
        loop {
            tokio::select! {
                biased;
                () = endpoint.failed.notified() => return None,
                status = statuses.next() => match status.unwrap_or_else(|| Err(no_word())) {
                    Ok(serving) => self.serves(index, serving),
                    Err(status) => return Some(Condition::Failing(reason(&status))),
                }
            }
        }
    }

    async fn decided(&self) -> &ModelInfo {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(model) = self.model.get() {
                return model;
            }
            // The sender is this pool's own.
            drop(changed.changed().await);
        }
    }

    /// Notes what an endpoint said when it was first asked for its model.
    fn said(&self, index: usize, model: Option<ModelInfo>) {
        if let Some(record) = self.lock().endpoints.get_mut(index) {
            // One that was away may still decide, as long as nobody has.
            if record.said == Said::NotAsked || model.is_some() {
                record.said = model.map_or(Said::Nothing, Said::Model);
            }
        }
        self.changed.send_replace(());
    }

    /// Notes what an endpoint says of its health.
    fn serves(&self, index: usize, serving: bool) {
        let condition = if serving { Condition::Healthy } else { Condition::NotServing };
        if let Some(record) = self.lock().endpoints.get_mut(index)
            && record.condition != condition
        {
            let address = self.address(index);
            if serving {
                record.times_healthy += 1;
                tracing::info!(pool = %self.name, endpoint = address, "an endpoint of the embedding pool answers");
            } else {
                tracing::warn!(pool = %self.name, endpoint = address, "an endpoint of the embedding pool cannot embed");
            }
            (record.condition, record.since) = (condition, Instant::now());
        }
        self.count_healthy(index);
    }

    /// Leaves an endpoint out. `times_healthy` is for which of its healthy times; `None` for whatever it is in. Out:
    /// whether that was still so.
    fn leave_out(&self, index: usize, condition: Condition, times_healthy: Option<u64>) -> bool {
        if let Some(record) = self.lock().endpoints.get_mut(index) {
            let healthy = record.condition == Condition::Healthy;
            if times_healthy.is_some_and(|times| !healthy || times != record.times_healthy) {
                return false;
            }
            if healthy && record.since.elapsed() >= PAUSE_MAX {
                record.failures = 0;
            }
            record.failures = record.failures.saturating_add(1);
            meter::pool_failed(index);
            let (pool, endpoint) = (&self.name, self.address(index));
            match &condition {
                Condition::OtherModel(model) if record.condition != condition => {
                    let ours = self.model.get().map_or("", |model| &model.fingerprint);
                    let theirs = &model.fingerprint;
                    tracing::error!(%pool, endpoint, ours, theirs, "an endpoint runs another model and is refused");
                }
                // Said once, and again when it was healthy in between.
                Condition::Failing(reason) if !matches!(record.condition, Condition::Failing(_)) => {
                    tracing::warn!(%pool, endpoint, reason, "an endpoint of the embedding pool is left out");
                }
                Condition::Unknown
                | Condition::Healthy
                | Condition::NotServing
                | Condition::Failing(_)
                | Condition::OtherModel(_) => {}
            }
            (record.condition, record.since) = (condition, Instant::now());
        }
        self.count_healthy(index);
        true
    }

    /// Brings what follows from the conditions up to date, after one has changed.
    fn count_healthy(&self, index: usize) {
        {
            let mut state = self.lock();
            let is_healthy = |record: &Record| record.condition == Condition::Healthy;
            meter::pool_healthy(index, state.endpoints.get(index).is_some_and(is_healthy));
            let any = state.endpoints.iter().any(is_healthy);
            state.away_since = if any { None } else { state.away_since.or_else(|| Some(Instant::now())) };
        }
        self.changed.send_replace(());
    }

    fn address(&self, index: usize) -> &str {
        self.endpoints.get(index).map_or("", |endpoint| &endpoint.address)
    }
}

/// A little more or less than it should be, so that not everybody comes back at once.
fn pause(failures: u32) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(PAUSE_MAX).mul_f64(0.75 + fastrand::f64() / 2.0)
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, String> {
    let answer = timeout(ASK_MAX, answer).await;
    answer.map_err(|_| format!("no answer within {ASK_MAX:?}"))?.map_err(|status| reason(&status))
}

fn no_word() -> Status {
    Status::unavailable("the connection ended")
}

/// What a status says, with the causes below it.
pub(crate) fn reason(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{FakeMember, Health, start};

    fn other_model() -> ModelInfo {
        ModelInfo { fingerprint: "other".to_owned(), dimensions: 8 }
    }

    async fn until_healthy(pool: &Pool, count: usize) {
        let mut changed = pool.changed.subscribe();
        while pool.healthy() != count {
            changed.changed().await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_endpoint_with_the_least_under_way_is_asked_and_equal_ones_take_turns() {
        let (pool, _tasks) = start(&[FakeMember::new(), FakeMember::new(), FakeMember::new()]);
        pool.ready().await;
        until_healthy(&pool, 3).await;
        let heavy = pool.pick(16).await.unwrap();
        let light: Vec<_> = [pool.pick(1).await.unwrap(), pool.pick(1).await.unwrap()].into();
        let mut asked = [heavy.endpoint, light[0].endpoint, light[1].endpoint];
        asked.sort_unstable();
        assert_eq!(asked, [0, 1, 2]);
        for _ in 0..6 {
            assert_ne!(pool.pick(1).await.unwrap().endpoint, heavy.endpoint);
        }
        let idle = heavy.endpoint;
        drop((heavy, light));
        let mut counts = [0; 3];
        for _ in 0..30 {
            counts[pool.pick(1).await.unwrap().endpoint] += 1;
        }
        assert_eq!(counts, [10, 10, 10], "{idle} is idle again");
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_fails_is_left_out_for_a_pause_that_grows() {
        let (good, bad) = (FakeMember::new(), FakeMember::new());
        let (pool, _tasks) = start(&[good, bad.clone()]);
        pool.ready().await;
        until_healthy(&pool, 2).await;
        bad.set_health(Health::Gone);
        until_healthy(&pool, 1).await;
        let started = Instant::now();
        let (mut asked, before) = (Vec::new(), bad.models_asked());
        while asked.len() < 9 {
            tokio::time::advance(Duration::from_millis(5)).await;
            tokio::task::yield_now().await;
            while bad.models_asked() > before + asked.len() {
                asked.push(started.elapsed());
            }
        }
        let pauses: Vec<_> = asked.windows(2).map(|pair| pair[1].checked_sub(pair[0]).unwrap()).collect();
        for (pause, doubled) in pauses.iter().zip([200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]) {
            let range = Duration::from_millis(doubled * 3 / 4)..=Duration::from_millis(doubled * 5 / 4 + 10);
            assert!(range.contains(pause), "{pauses:?}");
        }
        for _ in 0..4 {
            assert_eq!(pool.pick(1).await.unwrap().endpoint, 0);
        }
        bad.set_health(Health::Serving);
        until_healthy(&pool, 2).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_call_leaves_its_endpoint_out_and_a_late_one_says_nothing_about_a_new_connection() {
        let (pool, _tasks) = start(&[FakeMember::new()]);
        pool.ready().await;
        let (first, second) = (pool.pick(1).await.unwrap(), pool.pick(1).await.unwrap());
        first.failed("broke".to_owned());
        assert_eq!(pool.healthy(), 0);
        // It is waited for, and found healthy again after its pause.
        let third = pool.pick(1).await.unwrap();
        second.failed("broke, too".to_owned());
        assert_eq!((third.endpoint, pool.healthy()), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_that_has_been_away_for_long_refuses_at_once_and_says_what_is_wrong() {
        let (one, two) = (FakeMember::new(), FakeMember::new());
        let (pool, _tasks) = start(&[one.clone(), two.clone()]);
        pool.ready().await;
        until_healthy(&pool, 2).await;
        one.set_health(Health::NotServing);
        two.set_health(Health::Gone);
        until_healthy(&pool, 0).await;
        let started = Instant::now();
        let EmbedError::PoolAway { pool: name, reason } = pool.pick(1).await.map(drop).unwrap_err() else {
            panic!("not away")
        };
        assert_eq!(started.elapsed().as_millis() / 100, 10, "the first is waited for");
        assert_eq!(&*name, "fakes");
        assert!(
            reason.contains("fake-0: says that it cannot embed") && reason.contains("fake-1: Unavailable"),
            "{reason}"
        );
        let started = Instant::now();
        assert!(pool.pick(1).await.is_err());
        assert!(started.elapsed() < Duration::from_millis(2));
        one.set_health(Health::Serving);
        until_healthy(&pool, 1).await;
        assert_eq!(pool.pick(1).await.unwrap().endpoint, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_in_the_list_decides_for_a_model_even_if_it_answers_later() {
        let (slow, quick) = (FakeMember::new(), FakeMember::new().with_model(other_model()));
        slow.answer_after(Duration::from_millis(500));
        let (pool, _tasks) = start(&[slow, quick]);
        assert_eq!(pool.ready().await.fingerprint, "fake");
        assert_eq!(pool.pick(1).await.unwrap().endpoint, 0);
        assert!(pool.describe().contains("fake-1: runs another model, other"), "{}", pool.describe());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_away_at_the_start_does_not_hold_up_the_others_and_comes_later() {
        let (away, here) = (FakeMember::new(), FakeMember::new());
        away.set_health(Health::Gone);
        let (pool, _tasks) = start(&[away.clone(), here]);
        let started = Instant::now();
        pool.ready().await;
        assert!(started.elapsed() < Duration::from_millis(100));
        away.set_health(Health::Serving);
        until_healthy(&pool, 2).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_waits_for_the_pool_as_long_as_it_takes() {
        let member = FakeMember::new();
        member.set_health(Health::Gone);
        let (pool, _tasks) = start(std::slice::from_ref(&member));
        let mut ready = std::pin::pin!(pool.ready());
        assert!(timeout(Duration::from_hours(1), ready.as_mut()).await.is_err());
        member.set_health(Health::NotServing);
        assert!(timeout(Duration::from_hours(1), ready.as_mut()).await.is_err());
        member.set_health(Health::Serving);
        assert!(timeout(Duration::from_secs(30), ready).await.is_ok());
    }
}
