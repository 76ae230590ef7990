//! The pool behind the port.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use vitrine_core::{
    embed::{CallContext, EmbedError, Embedder, Embedding, Lane, ModelInfo},
    signal::{Photo, QueryText},
};

use crate::{
    call,
    member::{GrpcMember, Member},
    options::RemoteOptions,
    pool::Pool,
    queue::{Input, Queue},
};

/// Calls under way for each healthy endpoint; what comes meanwhile goes out together. 16: as many sessions as a large
/// machine has work at once, and each call may bring several inputs.
const CALLS_PER_ENDPOINT: usize = 16;
/// The part of them that jobs may take is one in so many.
const BULK_PART: usize = 2;
/// Pause before a job tries again, doubled each time, and the longest.
const JOB_PAUSE_MIN: Duration = Duration::from_millis(100);
const JOB_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Why a pool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// An address, or TLS for it, cannot be used: correct the settings.
    #[error("prepare the connection to {url}")]
    Endpoint {
        /// The address.
        url: String,
        /// What is wrong.
        source: tonic::transport::Error,
    },
    /// No endpoint answered in time: start the pool.
    #[error(transparent)]
    Away(EmbedError),
}

/// An [`Embedder`] that asks a pool of servers of `EmbeddingService`, all of one model. Dropping it takes back what is
/// under way.
pub struct RemoteEmbedder {
    pool: Arc<Pool>,
    model: ModelInfo,
    queue: Arc<Queue>,
    patience: Duration,
    tasks: Tasks,
}

/// Tasks that end with their owner.
pub(crate) struct Tasks(Vec<JoinHandle<()>>);

impl Tasks {
    /// Follows every endpoint of a pool.
    pub(crate) fn follow(pool: &Arc<Pool>) -> Self {
        let follow = |index| {
            let pool = Arc::clone(pool);
            tokio::spawn(async move { pool.follow(index).await })
        };
        Self((0..pool.size()).map(follow).collect())
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl RemoteEmbedder {
    /// Connects to a pool and waits until one of its endpoints answers, at most for `wait_max`, or as long as it takes;
    /// the log says that it waits.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn connect(options: &RemoteOptions, wait_max: Option<Duration>) -> Result<Self, RemoteError> {
        let member = |url| -> Result<(String, Box<dyn Member>), RemoteError> {
            Ok((ToString::to_string(url), Box::new(GrpcMember::new(url)?)))
        };
        let members = options.urls.get().iter().map(member).collect::<Result<_, _>>()?;
        let pool = Pool::new(options.name.shared(), options.timeout, members);
        Self::start(pool, options.queue_size_max, options.patience, wait_max).await
    }

    pub(crate) async fn start(
        pool: Arc<Pool>,
        queue_size_max: usize,
        patience: Duration,
        wait_max: Option<Duration>,
    ) -> Result<Self, RemoteError> {
        let mut tasks = Tasks::follow(&pool);
        let model = match wait_max {
            None => pool.ready().await,
            Some(wait_max) => timeout(wait_max, pool.ready()).await.map_err(|_| RemoteError::Away(pool.away()))?,
        };
        let queue = Arc::new(Queue::new(queue_size_max));
        tasks.0.push(tokio::spawn(dispatch(Arc::clone(&queue), Arc::clone(&pool))));
        Ok(Self { pool, model, queue, patience, tasks })
    }

    async fn embed(&self, input: Input, call: CallContext) -> Result<Embedding, EmbedError> {
        let (started, mut pause) = (Instant::now(), JOB_PAUSE_MIN);
        loop {
            let error = match self.embed_now(input.clone(), call).await {
                Ok(embedding) => return Ok(embedding),
                Err(error) => error,
            };
            let wanted = match &error {
                EmbedError::PoolBusy { retry_after, .. } => retry_after.unwrap_or_default(),
                EmbedError::PoolAway { .. } | EmbedError::Overloaded { .. } => Duration::ZERO,
                EmbedError::Invalid(_)
                | EmbedError::DeadlineExceeded
                | EmbedError::Unavailable(_)
                | EmbedError::Internal(_) => return Err(error),
            };
            let next = pause.max(wanted).mul_f64(0.75 + fastrand::f64() / 2.0);
            // Who has a deadline decides himself whether to try again.
            if call.deadline.is_some() || started.elapsed() + next > self.patience {
                return Err(error);
            }
            tracing::debug!(%error, pause_ms = next.as_millis(), "a job tries again");
            sleep(next).await;
            pause = (pause * 2).min(JOB_PAUSE_MAX);
        }
    }

    async fn embed_now(&self, input: Input, call: CallContext) -> Result<Embedding, EmbedError> {
        let reply = self.queue.push(input, call)?;
        match call.until_deadline(reply).await {
            Some(Ok(result)) => result,
            None => Err(EmbedError::DeadlineExceeded),
            // What is late is dropped without an answer.
            Some(Err(_)) if !call.has_time() => Err(EmbedError::DeadlineExceeded),
            Some(Err(_)) => {
                Err(EmbedError::Internal("a call of the embedding pool ended without an answer".to_owned()))
            }
        }
    }
}

/// Makes calls of what waits, as many at once as the pool gets.
async fn dispatch(queue: Arc<Queue>, pool: Arc<Pool>) {
    let (mut interactive, mut bulk) = (JoinSet::new(), JoinSet::new());
    loop {
        while interactive.try_join_next().is_some() || bulk.try_join_next().is_some() {}
        let endpoints = pool.healthy().max(1);
        let places = endpoints * CALLS_PER_ENDPOINT;
        while interactive.len() + bulk.len() < places
            && let Some(batch) = queue.take(Lane::Interactive, endpoints)
        {
            interactive.spawn(call::run(Arc::clone(&pool), batch));
        }
        while interactive.len() + bulk.len() < places
            && bulk.len() < places / BULK_PART
            && let Some(batch) = queue.take(Lane::Bulk, endpoints)
        {
            bulk.spawn(call::run(Arc::clone(&pool), batch));
        }
        tokio::select! {
            () = queue.changed.notified() => {}
            Some(_) = interactive.join_next() => {}
            Some(_) = bulk.join_next() => {}
        }
    }
}

#[async_trait]
impl Embedder for RemoteEmbedder {
    fn model(&self) -> &ModelInfo {
        &self.model
    }

    async fn embed_photo(&self, photo: &Photo, call: CallContext) -> Result<Embedding, EmbedError> {
        self.embed(Input::Photo(photo.clone()), call).await
    }

    async fn embed_text(&self, text: &QueryText, call: CallContext) -> Result<Embedding, EmbedError> {
        self.embed(Input::Text(text.clone()), call).await
    }

    fn is_alive(&self) -> bool {
        self.tasks.0.iter().all(|task| !task.is_finished())
    }

    fn can_embed(&self) -> bool {
        self.is_alive() && self.pool.healthy() > 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant as StdInstant;

    use futures::future::join_all;
    use tonic::Code;
    use vitrine_core::fakes::embedding;

    use super::*;
    use crate::fakes::{Embeds, FakeMember, Health, pool_of};

    async fn remote(members: &[FakeMember]) -> RemoteEmbedder {
        let pool = pool_of(members);
        let remote = RemoteEmbedder::start(pool, 64, Duration::from_mins(1), None).await.unwrap();
        while remote.pool.healthy() < members.len() {
            tokio::task::yield_now().await;
        }
        remote
    }

    fn soon() -> CallContext {
        CallContext::interactive(StdInstant::now() + Duration::from_secs(30))
    }

    async fn embed(remote: &RemoteEmbedder, text: &str, call: CallContext) -> Result<Embedding, EmbedError> {
        remote.embed_text(&QueryText::new(text, "").unwrap(), call).await
    }

    #[tokio::test]
    async fn what_is_asked_for_together_goes_out_in_one_call_without_waiting() {
        let member = FakeMember::new();
        let remote = remote(std::slice::from_ref(&member)).await;
        let words = ["a", "b", "c", "d"];
        let all = join_all(words.map(|word| embed(&remote, word, soon()))).await;
        for (word, made) in words.iter().zip(all) {
            assert_eq!(made.unwrap(), embedding(word), "to the last bit");
        }
        assert_eq!(embed(&remote, "e", CallContext::bulk()).await.unwrap(), embedding("e"));
        let calls = member.calls();
        assert_eq!(calls.len(), 2);
        assert_eq!((calls[0].texts.as_slice(), calls[0].priority), (&words.map(str::to_owned)[..], 1));
        assert_eq!((calls[1].texts.as_slice(), calls[1].priority), (&["e".to_owned()][..], 2));
    }

    #[tokio::test]
    async fn each_input_brings_its_own_time_and_the_call_the_longest() {
        let member = FakeMember::new();
        let remote = remote(std::slice::from_ref(&member)).await;
        let within = |seconds| CallContext::interactive(StdInstant::now() + Duration::from_secs(seconds));
        join_all([embed(&remote, "a", within(1)), embed(&remote, "b", within(3)), embed(&remote, "c", within(60))])
            .await;
        let call = &member.calls()[0];
        // 5 s is the pool's own limit in these tests.
        for (time, limit) in [call.time].iter().chain(&call.times).zip([5.0, 1.0, 3.0, 5.0]) {
            assert!((limit - 0.5..=limit).contains(&time.as_secs_f64()), "{call:?}");
        }
        assert!(call.times[2] < call.time, "the member answers in time for its answer to arrive");
    }

    #[tokio::test]
    async fn what_one_endpoint_fails_or_refuses_another_is_asked_for_once() {
        for embeds in [
            Embeds::Refuses(Code::Unavailable),
            Embeds::Refuses(Code::Unknown),
            Embeds::Refuses(Code::ResourceExhausted),
            Embeds::EachFails(8),
            Embeds::EachFails(13),
            Embeds::EachFails(14),
            Embeds::OtherModel,
            Embeds::TooFew,
        ] {
            let (bad, good) = (FakeMember::new(), FakeMember::new());
            let remote = remote(&[bad.clone(), good.clone()]).await;
            bad.set_embeds(embeds);
            let made = join_all((0..4).map(|number| {
                let remote = &remote;
                async move { embed(remote, &number.to_string(), soon()).await }
            }));
            assert!(made.await.iter().all(Result::is_ok), "{embeds:?}");
            assert!(!bad.calls().is_empty() && !good.calls().is_empty(), "{embeds:?}");
        }
    }

    #[tokio::test]
    async fn a_busy_pool_is_said_to_be_busy_with_the_pause_that_it_asked_for() {
        let members = [FakeMember::new(), FakeMember::new()];
        let remote = remote(&members).await;
        let pause = Some(Duration::from_millis(FakeMember::RETRY_MS));
        for embeds in [Embeds::Refuses(Code::ResourceExhausted), Embeds::EachFails(8)] {
            for member in &members {
                member.set_embeds(embeds);
            }
            let before: usize = members.iter().map(|member| member.calls().len()).sum();
            let error = embed(&remote, "a", soon()).await.unwrap_err();
            assert_eq!(error, EmbedError::PoolBusy { pool: "fakes".into(), retry_after: pause }, "{embeds:?}");
            let asked = members.iter().map(|member| member.calls().len()).sum::<usize>() - before;
            assert_eq!((asked, remote.pool.healthy()), (2, 2), "busy is not ill");
        }
    }

    #[tokio::test]
    async fn a_wrong_input_is_not_tried_again_and_does_not_fail_its_neighbours() {
        let members = [FakeMember::new(), FakeMember::new()];
        let remote = remote(&members).await;
        let made = join_all([FakeMember::WRONG, "a", "b"].map(|word| embed(&remote, word, soon()))).await;
        let EmbedError::Invalid(invalid) = made[0].clone().unwrap_err() else { panic!("{made:?}") };
        assert_eq!((invalid.field.as_str(), invalid.problem.as_str()), ("text", "is wrong"));
        assert!(made[1].is_ok() && made[2].is_ok());
        let mut calls: Vec<_> = members.iter().flat_map(FakeMember::calls).map(|call| call.texts).collect();
        calls.sort_unstable();
        assert_eq!(calls, [vec!["b"], vec![FakeMember::WRONG, "a"]], "each endpoint has its share, once");
    }

    #[tokio::test]
    async fn a_hanging_endpoint_is_left_out_after_the_pools_own_limit_and_another_answers() {
        let (bad, good) = (FakeMember::new(), FakeMember::new());
        let remote = remote(&[bad.clone(), good.clone()]).await;
        tokio::time::pause();
        bad.set_embeds(Embeds::Hangs);
        for word in ["a", "b"] {
            assert!(embed(&remote, word, CallContext::bulk()).await.is_ok());
        }
        assert_eq!((bad.calls().len(), good.calls().len()), (1, 2));
    }

    #[tokio::test]
    async fn who_leaves_takes_his_call_back_and_who_is_late_is_told() {
        let member = FakeMember::new();
        let remote = remote(std::slice::from_ref(&member)).await;
        member.set_embeds(Embeds::Hangs);
        let late = CallContext::interactive(StdInstant::now() + Duration::from_millis(20));
        assert_eq!(embed(&remote, "a", late).await, Err(EmbedError::DeadlineExceeded));
        let mut left = Box::pin(embed(&remote, "b", soon()));
        while member.hanging() == 0 || member.calls().len() < 2 {
            assert!(futures::poll!(left.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        drop(left);
        while member.hanging() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(remote.pool.healthy(), 1, "little time says nothing about the endpoint");
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_outlasts_a_busy_pool_and_one_that_starts_anew() {
        let member = FakeMember::new();
        let remote = remote(std::slice::from_ref(&member)).await;
        member.set_embeds(Embeds::EachFails(8));
        let mut job = Box::pin(embed(&remote, "a", CallContext::bulk()));
        assert!(timeout(Duration::from_secs(5), job.as_mut()).await.is_err());
        member.set_health(Health::Gone);
        assert!(timeout(Duration::from_secs(10), job.as_mut()).await.is_err());
        member.set_embeds(Embeds::Well);
        member.set_health(Health::Serving);
        assert!(job.await.is_ok());
        member.set_health(Health::Gone);
        let (started, error) = (Instant::now(), embed(&remote, "b", CallContext::bulk()).await.unwrap_err());
        assert!(matches!(error, EmbedError::PoolAway { .. }), "{error}");
        assert!((40..=60).contains(&started.elapsed().as_secs()), "its patience has an end");
    }

    #[tokio::test]
    async fn jobs_leave_places_for_people() {
        let member = FakeMember::new();
        let remote = remote(std::slice::from_ref(&member)).await;
        member.set_embeds(Embeds::BulkHangs);
        let remote = &remote;
        let job = async |job: usize| embed(remote, &job.to_string(), CallContext::bulk()).await;
        let mut jobs = Vec::new();
        for number in 0..2 * CALLS_PER_ENDPOINT {
            let mut job = Box::pin(job(number));
            assert!(futures::poll!(job.as_mut()).is_pending());
            jobs.push(job);
            for _ in 0..9 {
                tokio::task::yield_now().await;
            }
        }
        assert!(embed(remote, "person", soon()).await.is_ok());
        assert_eq!(member.hanging(), CALLS_PER_ENDPOINT / BULK_PART);
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_may_not_wait_says_which_pool_is_away() {
        let member = FakeMember::new();
        member.set_health(Health::Gone);
        let started = RemoteEmbedder::start(pool_of(&[member]), 1, Duration::ZERO, Some(Duration::from_secs(3))).await;
        let error = started.err().unwrap().to_string();
        assert!(error.starts_with("embedding pool `fakes` is away: fake-0: Unavailable"), "{error}");
    }
}
