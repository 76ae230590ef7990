//! What `grpc.health.v1` says.
//!
//! | service | is SERVING while |
//! |---|---|
//! | `vitrine.v1.EmbeddingService` | the model runs, or an endpoint of the embedding pool answers |
//! | `vitrine.v1.RecommendationService`, `vitrine.v1.CatalogService`, and the whole server, `""` | the model runs, or the embedding pool has answered once, and at least one catalogue can be searched or none was published yet |
//!
//! A pool that goes away takes no server away from its callers: what is remembered, and what is asked by product or
//! vector, is still answered, and all servers of the pool would go at once. What needs the pool is UNAVAILABLE, by name.
//! One broken catalogue of several does not take the server away from those who search the others: its own calls are
//! UNAVAILABLE, and the log says why. A server that can search nothing must get no searches while another one can
//! answer them. One whose index is still empty serves: it will open what is published without a restart.
//! While the server waits for its first word from the pool, and while it stops, everything is NOT_SERVING.

use tonic_health::{ServingStatus, server::HealthReporter};
use vitrine_core::embed::Embedder;
use vitrine_index::ServedIndex;
use vitrine_proto::v1::{
    catalog_service_server::SERVICE_NAME as CATALOG, embedding_service_server::SERVICE_NAME as EMBEDDING,
    recommendation_service_server::SERVICE_NAME as RECOMMENDATION,
};

/// What the server can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ability {
    /// Whether photos and texts can be embedded.
    pub(crate) embed: bool,
    /// Whether there is something to search, and it can be searched.
    pub(crate) search: bool,
}

impl Ability {
    /// What a model and an index can do.
    pub(crate) fn of(embedder: &dyn Embedder, index: &dyn ServedIndex) -> Self {
        let serving = index.serving();
        let fits = serving.iter().any(|(_, generation)| generation.info().model == *embedder.model());
        let empty = serving.is_empty() && index.is_whole();
        Self { embed: embedder.can_embed(), search: embedder.is_alive() && (fits || empty) }
    }
}

/// Says it, at each change.
pub(crate) struct Health {
    reporter: HealthReporter,
    said: Option<Ability>,
}

impl Health {
    pub(crate) fn new(reporter: HealthReporter) -> Self {
        Self { reporter, said: None }
    }

    /// Says what the server can do now, and logs why it can do less than before.
    pub(crate) async fn follow(&mut self, ability: Ability) {
        let before = self.said;
        self.say(ability).await;
        if !ability.embed && before.is_none_or(|before| before.embed) {
            tracing::error!("nothing can be embedded: the model's threads have died, or the embedding pool is away");
        } else if ability.embed && before.is_some_and(|before| !before.embed) {
            tracing::info!("embedding again");
        }
        if !ability.search && before.is_none_or(|before| before.search) {
            tracing::error!("no published catalogue can be searched; not serving until one can");
        } else if ability.search && before.is_some_and(|before| !before.search) {
            tracing::info!("serving again");
        }
    }

    /// Says that the server can do nothing yet, or nothing any more.
    pub(crate) async fn deny(&mut self) {
        self.say(Ability { embed: false, search: false }).await;
    }

    async fn say(&mut self, ability: Ability) {
        if self.said == Some(ability) {
            return;
        }
        self.said = Some(ability);
        let Ability { embed, search } = ability;
        for (service, serving) in [("", search), (RECOMMENDATION, search), (CATALOG, search), (EMBEDDING, embed)] {
            let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
            self.reporter.set_service_status(service, status).await;
        }
    }
}
