//! Endpoints that do as they are told.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream, stream::BoxStream};
use tokio::sync::watch;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use vitrine_core::{
    embed::ModelInfo,
    fakes::{DIMENSIONS, embedding},
};
use vitrine_proto::v1::{self as pb, embed_input::Source, embed_result::Outcome};

use crate::{embedder::Tasks, member::Member, pool::Pool};

/// What its health says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Serving,
    NotServing,
    /// Nobody is there.
    Gone,
}

/// What it does when it is asked for vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Embeds {
    Well,
    Hangs,
    BulkHangs,
    Refuses(Code),
    EachFails(i32),
    OtherModel,
    TooFew,
}

/// What it was asked.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) texts: Vec<String>,
    pub(crate) priority: i32,
    pub(crate) time: Duration,
    pub(crate) times: Vec<Duration>,
}

#[derive(Clone)]
pub(crate) struct FakeMember {
    model: ModelInfo,
    inner: Arc<Inner>,
}

struct Inner {
    health: watch::Sender<Health>,
    embeds: Mutex<Embeds>,
    delay: Mutex<Duration>,
    calls: Mutex<Vec<Call>>,
    models_asked: AtomicUsize,
    hanging: AtomicUsize,
}

impl FakeMember {
    /// A text that it says is wrong.
    pub(crate) const WRONG: &'static str = "wrong";
    /// The pause that it asks for when it is busy.
    pub(crate) const RETRY_MS: u64 = 123;

    pub(crate) fn new() -> Self {
        let inner = Inner {
            health: watch::Sender::new(Health::Serving),
            embeds: Mutex::new(Embeds::Well),
            delay: Mutex::default(),
            calls: Mutex::default(),
            models_asked: AtomicUsize::new(0),
            hanging: AtomicUsize::new(0),
        };
        let model = ModelInfo { fingerprint: "fake".to_owned(), dimensions: DIMENSIONS };
        Self { model, inner: Arc::new(inner) }
    }

    pub(crate) fn with_model(self, model: ModelInfo) -> Self {
        Self { model, ..self }
    }

    pub(crate) fn set_health(&self, health: Health) {
        self.inner.health.send_replace(health);
    }

    pub(crate) fn set_embeds(&self, embeds: Embeds) {
        *self.inner.embeds.lock().unwrap() = embeds;
    }

    pub(crate) fn answer_after(&self, delay: Duration) {
        *self.inner.delay.lock().unwrap() = delay;
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.inner.calls.lock().unwrap().clone()
    }

    pub(crate) fn models_asked(&self) -> usize {
        self.inner.models_asked.load(Ordering::SeqCst)
    }

    /// Calls that hang and were not taken back.
    pub(crate) fn hanging(&self) -> usize {
        self.inner.hanging.load(Ordering::SeqCst)
    }

    fn check_there(&self) -> Result<(), Status> {
        match *self.inner.health.borrow() {
            Health::Serving | Health::NotServing => Ok(()),
            Health::Gone => Err(Status::unavailable("nobody is there")),
        }
    }

    async fn hang(&self) {
        struct Hanging<'a>(&'a AtomicUsize);
        impl Drop for Hanging<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.inner.hanging.fetch_add(1, Ordering::SeqCst);
        let _hanging = Hanging(&self.inner.hanging);
        std::future::pending::<()>().await;
    }
}

#[async_trait]
impl Member for FakeMember {
    async fn model(&self) -> Result<ModelInfo, Status> {
        self.inner.models_asked.fetch_add(1, Ordering::SeqCst);
        let delay = *self.inner.delay.lock().unwrap();
        tokio::time::sleep(delay).await;
        self.check_there()?;
        Ok(self.model.clone())
    }

    async fn watch(&self) -> Result<BoxStream<'static, Result<bool, Status>>, Status> {
        self.check_there()?;
        let health = self.inner.health.subscribe();
        let said = stream::unfold((health, true), async |(mut health, first)| {
            if !first {
                health.changed().await.ok()?;
            }
            let said = match *health.borrow_and_update() {
                Health::Serving => Ok(true),
                Health::NotServing => Ok(false),
                Health::Gone => Err(Status::unavailable("nobody is there")),
            };
            Some((said, (health, false)))
        });
        Ok(said.boxed())
    }

    async fn embed(&self, request: pb::EmbedRequest, time: Duration) -> Result<pb::EmbedResponse, Status> {
        self.check_there()?;
        let texts = request.inputs.iter().map(|input| match &input.source {
            Some(Source::Text(text)) => text.clone(),
            Some(Source::Photo(photo)) => String::from_utf8_lossy(&photo.content).into_owned(),
            None => String::new(),
        });
        let texts: Vec<_> = texts.collect();
        let times = request.inputs.iter().map(|input| input.timeout.unwrap().try_into().unwrap()).collect();
        let priority = request.priority;
        self.inner.calls.lock().unwrap().push(Call { texts: texts.clone(), priority, time, times });
        let embeds = *self.inner.embeds.lock().unwrap();
        let (mut model, mut each_fails) = (self.model.fingerprint.clone(), 0);
        let mut count = texts.len();
        match embeds {
            Embeds::Hangs => self.hang().await,
            Embeds::BulkHangs if priority == 2 => self.hang().await,
            Embeds::Well | Embeds::BulkHangs => {}
            Embeds::Refuses(code) => {
                let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(Self::RETRY_MS)));
                return Err(Status::with_error_details(code, "told to", details));
            }
            Embeds::EachFails(code) => each_fails = code,
            Embeds::OtherModel => "other".clone_into(&mut model),
            Embeds::TooFew => count -= 1,
        }
        let result = |(position, text): (usize, &String)| {
            let failure = |code, message: String, field: String| pb::EmbedError {
                code,
                message,
                field,
                retry_delay: Duration::from_millis(Self::RETRY_MS).try_into().ok(),
            };
            let outcome = if text == Self::WRONG {
                let field = format!("inputs[{position}].text");
                Outcome::Error(failure(3, format!("field `{field}` is wrong"), field))
            } else if each_fails != 0 {
                Outcome::Error(failure(each_fails, "told to".to_owned(), String::new()))
            } else {
                Outcome::Embedding(pb::Embedding { values: embedding(text).values().to_vec() })
            };
            pb::EmbedResult { outcome: Some(outcome) }
        };
        let results = texts.iter().enumerate().take(count).map(result).collect();
        let dimensions = i32::try_from(self.model.dimensions).unwrap();
        Ok(pb::EmbedResponse { results, model_fingerprint: model, dimensions })
    }
}

/// A pool of them, named `fakes`, that nobody follows yet.
pub(crate) fn pool_of(members: &[FakeMember]) -> Arc<Pool> {
    let members = members.iter().enumerate().map(|(index, member)| {
        let member: Box<dyn Member> = Box::new(member.clone());
        (format!("fake-{index}"), member)
    });
    Pool::new("fakes".into(), Duration::from_secs(5), members.collect())
}

/// The same, followed as long as the tasks live.
pub(crate) fn start(members: &[FakeMember]) -> (Arc<Pool>, Tasks) {
    let pool = pool_of(members);
    let tasks = Tasks::follow(&pool);
    (pool, tasks)
}
