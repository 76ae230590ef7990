//! `EmbeddingService`.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;
use vitrine_core::{
    Invalid,
    embed::{CallContext, EmbedError, Embedder, Embedding, Lane, ModelInfo},
    limits::EMBED_INPUTS_MAX,
    search::SearchError,
    signal::QueryText,
};
use vitrine_proto::v1::{self as pb, embedding_service_server::EmbeddingService};

use super::{Service, call_of, from_pb, status};

/// Inputs of one request that are worked on at once: enough to fill a batch, few enough that others get their turn.
const INPUTS_AT_ONCE: usize = 16;

#[tonic::async_trait]
impl EmbeddingService for Service {
    async fn embed(&self, request: Request<pb::EmbedRequest>) -> Result<Response<pb::EmbedResponse>, Status> {
        let mut call = call_of(&request)?;
        let request = request.into_inner();
        match request.inputs.len() {
            0 => return Err(status::from_invalid(Invalid::new("inputs", "is empty"))),
            count if count > EMBED_INPUTS_MAX => {
                let problem = format!("has {count}, more than the limit of {EMBED_INPUTS_MAX}");
                return Err(status::from_invalid(Invalid::new("inputs", problem)));
            }
            _ => {}
        }
        call.lane = match request.priority() {
            pb::EmbedPriority::Bulk => Lane::Bulk,
            pb::EmbedPriority::Unspecified | pb::EmbedPriority::Interactive => Lane::Interactive,
        };
        call.bypass_cache = request.bypass_cache;
        let (embedder, read) = (self.parts()?.embedder(), Instant::now());
        let embedded = request.inputs.into_iter().enumerate().map(|(position, input)| async move {
            let outcome = embed(embedder, input, call, read).await;
            outcome.map_err(|error| error.within(&format!("inputs[{position}]")))
        });
        let results = stream::iter(embedded).buffered(INPUTS_AT_ONCE).map(result).collect().await;
        let model = embedder.model();
        Ok(Response::new(pb::EmbedResponse {
            results,
            model_fingerprint: model.fingerprint.clone(),
            dimensions: dimensions(model),
        }))
    }

    async fn get_model(&self, _: Request<pb::GetModelRequest>) -> Result<Response<pb::GetModelResponse>, Status> {
        let model = self.parts()?.embedder().model();
        let model_fingerprint = model.fingerprint.clone();
        Ok(Response::new(pb::GetModelResponse { model_fingerprint, dimensions: dimensions(model) }))
    }
}

fn dimensions(model: &ModelInfo) -> i32 {
    i32::try_from(model.dimensions).unwrap_or(i32::MAX)
}

async fn embed(
    embedder: &dyn Embedder,
    input: pb::EmbedInput,
    mut call: CallContext,
    read: Instant,
) -> Result<Embedding, EmbedError> {
    use pb::embed_input::Source;
    if let Some(timeout) = input.timeout {
        let timeout = Duration::try_from(timeout).map_err(|_| Invalid::new("timeout", "is negative or too long"))?;
        let own = read.checked_add(timeout).ok_or_else(|| Invalid::new("timeout", "is negative or too long"))?;
        call.deadline = Some(call.deadline.map_or(own, |deadline| deadline.min(own)));
    }
    // The last of many inputs must not spend what is kept back for the answer.
    if !call.has_time() {
        return Err(EmbedError::DeadlineExceeded);
    }
    match input.source {
        None => Err(Invalid::new("source", "is missing: one of photo and text").into()),
        Some(Source::Text(text)) => embedder.embed_text(&QueryText::new(text, "text")?, call).await,
        Some(Source::Photo(photo)) => {
            let photo = from_pb::photo(photo).map_err(|invalid| invalid.within("photo"))?;
            embedder.embed_photo(&photo, call).await.map_err(|error| error.within("photo"))
        }
    }
}

fn result(outcome: Result<Embedding, EmbedError>) -> pb::EmbedResult {
    use pb::embed_result::Outcome;
    let outcome = match outcome {
        Ok(embedding) => Outcome::Embedding(pb::Embedding { values: embedding.values().to_vec() }),
        Err(error) => {
            let field = if let EmbedError::Invalid(invalid) = &error { invalid.field.clone() } else { String::new() };
            let status = status::from_search(SearchError::from(error));
            let retry_delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
            Outcome::Error(pb::EmbedError {
                code: code(status.code()),
                message: status.message().to_owned(),
                field,
                retry_delay: retry_delay.and_then(|delay| delay.try_into().ok()),
            })
        }
    };
    pb::EmbedResult { outcome: Some(outcome) }
}

/// The number of a `google.rpc.Code`.
fn code(code: Code) -> i32 {
    i32::from(code)
}
