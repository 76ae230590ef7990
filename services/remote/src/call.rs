//! One call of the pool, the second try on another endpoint, and what an answer means.
//!
//! To embed twice is the same as to embed once, so whatever failed may be tried again. It is, once: by another endpoint
//! if there is one, and only for those who still have time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use vitrine_core::{
    Invalid,
    embed::{EmbedError, Embedding, Lane, ModelInfo},
    meter,
};
use vitrine_proto::v1::{self as pb, embed_result::Outcome};

use crate::{
    pool::{Lease, Pool, reason},
    queue::{Batch, Entry},
};

/// Most time that a member keeps back from its callers' deadlines for its answer to arrive: otherwise the whole call
/// ends, with those that were done in time.
const MARGIN_MAX: Duration = Duration::from_millis(25);

/// What became of an input.
enum Answer {
    /// It is decided.
    Done(Result<Embedding, EmbedError>),
    /// Another try may bring more; the error is for when there is none.
    Again(EmbedError),
}

/// What became of a call.
enum Ended {
    /// The endpoint answered, for each input.
    Answered(Vec<Answer>),
    /// It refused the whole call, but is well.
    Refused(Answer),
    /// It is left out now.
    Failed(EmbedError),
}

/// Asks for a batch and answers everybody who still waits. Ends early, and takes the call back, when nobody does.
pub(crate) async fn run(pool: Arc<Pool>, batch: Batch) {
    let Batch { lane, mut entries } = batch;
    let mut other = None;
    for is_last in [false, true] {
        entries.retain(Entry::is_wanted);
        if entries.is_empty() {
            return;
        }
        let lease = match other.take() {
            Some(lease) => lease,
            None => match pool.pick(entries.len()).await {
                Ok(lease) => lease,
                Err(away) => return entries.into_iter().for_each(|entry| reply(entry, Err(away.clone()))),
            },
        };
        let limit = Limit::of(&entries, pool.timeout);
        let request = request(lane, &entries, limit);
        let answer = tokio::select! {
            answer = ask(&lease, request, limit) => answer,
            () = all_left(&mut entries) => return,
        };
        let answers: Vec<Answer> = match judge(&pool, &lease, &entries, answer, limit) {
            Ended::Answered(answers) => answers,
            Ended::Refused(answer) => entries.iter().map(|_| answer.for_each()).collect(),
            Ended::Failed(error) => {
                let answers = entries.into_iter().map(|entry| (entry, Answer::Again(error.clone())));
                entries = again(answers, !is_last);
                continue;
            }
        };
        other = if is_last { None } else { pool.pick_now(entries.len(), Some(lease.endpoint)) };
        entries = again(entries.into_iter().zip(answers), other.is_some());
    }
}

/// Answers what is decided. Out: what is tried again.
fn again(answered: impl Iterator<Item = (Entry, Answer)>, another_try: bool) -> Vec<Entry> {
    let mut left = Vec::new();
    for (entry, answer) in answered {
        match answer {
            Answer::Done(result) => reply(entry, result),
            Answer::Again(_) if another_try => left.push(entry),
            Answer::Again(error) => reply(entry, Err(error)),
        }
    }
    if !left.is_empty() {
        meter::pool_retried(left.len());
    }
    left
}

fn reply(entry: Entry, result: Result<Embedding, EmbedError>) {
    // A caller that left does not want its result.
    drop(entry.reply.send(result));
}

/// Waits until nobody waits any more.
async fn all_left(entries: &mut [Entry]) {
    for entry in entries {
        entry.reply.closed().await;
    }
}

/// Until when a call may take.
#[derive(Debug, Clone, Copy)]
struct Limit {
    at: Instant,
    time: Duration,
}

impl Limit {
    /// The longest that somebody waits, at most `timeout`.
    fn of(entries: &[Entry], timeout: Duration) -> Self {
        let now = Instant::now();
        let left = |entry: &Entry| entry.deadline.map_or(timeout, |deadline| deadline.saturating_duration_since(now));
        let time = entries.iter().map(left).max().unwrap_or_default().min(timeout);
        Self { at: now + time, time }
    }

    /// Whether somebody waits longer.
    fn is_before_deadline(&self, entry: &Entry) -> bool {
        entry.deadline.is_none_or(|deadline| deadline > self.at)
    }

    /// What the member has for an input, so that its answer arrives in time.
    fn time_of(&self, entry: &Entry) -> Duration {
        let own = entry.deadline.map_or(self.time, |deadline| deadline.saturating_duration_since(Instant::now()));
        let own = own.min(self.time);
        own.saturating_sub((self.time / 20).min(MARGIN_MAX))
    }
}

impl Answer {
    fn for_each(&self) -> Self {
        match self {
            Self::Done(result) => Self::Done(result.clone()),
            Self::Again(error) => Self::Again(error.clone()),
        }
    }
}

/// Asks an endpoint; `None` when nothing comes in time.
async fn ask(lease: &Lease, request: pb::EmbedRequest, limit: Limit) -> Option<Result<pb::EmbedResponse, Status>> {
    let (started, size) = (Instant::now(), request.inputs.len());
    let answer = tokio::time::timeout(limit.time, lease.member()?.embed(request, limit.time)).await;
    // tonic's own timer says CANCELLED.
    let answer = answer.ok().filter(|answer| answer.is_ok() || Instant::now() < limit.at);
    let code = match &answer {
        None => Code::DeadlineExceeded,
        Some(Ok(_)) => Code::Ok,
        Some(Err(status)) => status.code(),
    };
    meter::pool_called(lease.endpoint, format!("{code:?}"), size, started.elapsed());
    answer
}

fn judge(
    pool: &Pool,
    lease: &Lease,
    entries: &[Entry],
    answer: Option<Result<pb::EmbedResponse, Status>>,
    limit: Limit,
) -> Ended {
    match answer {
        Some(Ok(response)) => read(pool, lease, entries, response, limit),
        Some(Err(status)) => refused(pool, lease, &status),
        None if entries.iter().any(|entry| limit.is_before_deadline(entry)) => {
            failed(pool, lease, format!("no answer within {:?}", limit.time))
        }
        // Its callers had little time; that says nothing about the endpoint.
        None => Ended::Refused(Answer::Done(Err(EmbedError::DeadlineExceeded))),
    }
}

fn request(lane: Lane, entries: &[Entry], limit: Limit) -> pb::EmbedRequest {
    let input = |entry: &Entry| pb::EmbedInput {
        source: Some(entry.input.source()),
        timeout: limit.time_of(entry).try_into().ok(),
    };
    let priority = match lane {
        Lane::Interactive => pb::EmbedPriority::Interactive,
        Lane::Bulk => pb::EmbedPriority::Bulk,
    };
    pb::EmbedRequest {
        inputs: entries.iter().map(input).collect(),
        priority: priority.into(),
        bypass_cache: entries.first().is_some_and(|entry| entry.bypass_cache),
    }
}

/// Leaves the endpoint out.
fn failed(pool: &Pool, lease: &Lease, what: String) -> Ended {
    let error = away(pool, lease, &what);
    lease.failed(what);
    Ended::Failed(error)
}

fn away(pool: &Pool, lease: &Lease, what: &str) -> EmbedError {
    EmbedError::PoolAway { pool: Arc::clone(&pool.name), reason: format!("{}: {what}", lease.address()) }
}

fn busy(pool: &Pool, retry_after: Option<Duration>) -> EmbedError {
    EmbedError::PoolBusy { pool: Arc::clone(&pool.name), retry_after }
}

/// What it means that there is a status instead of an answer.
fn refused(pool: &Pool, lease: &Lease, status: &Status) -> Ended {
    match status.code() {
        Code::ResourceExhausted => {
            let retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
            Ended::Refused(Answer::Again(busy(pool, retry_after)))
        }
        // It is alive, and had too much to do to answer in time.
        Code::DeadlineExceeded => Ended::Refused(Answer::Again(busy(pool, None))),
        // It reads requests otherwise than this program writes them; so would the others.
        Code::InvalidArgument | Code::OutOfRange => {
            let text = format!("embedding pool `{}`: {}: {}", pool.name, lease.address(), reason(status));
            Ended::Refused(Answer::Done(Err(EmbedError::Internal(text))))
        }
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => failed(pool, lease, reason(status)),
    }
}

/// What an answer says, for each input. One that is not of the pool's model, or not whole, is as none.
fn read(pool: &Pool, lease: &Lease, entries: &[Entry], response: pb::EmbedResponse, limit: Limit) -> Ended {
    let dimensions = usize::try_from(response.dimensions).unwrap_or_default();
    let model = ModelInfo { fingerprint: response.model_fingerprint, dimensions };
    if pool.model() != Some(&model) {
        let error = away(pool, lease, &format!("answered with vectors of another model, {}", model.fingerprint));
        lease.answered_with(model);
        return Ended::Failed(error);
    }
    if response.results.len() != entries.len() {
        return failed(pool, lease, format!("{} results for {} inputs", response.results.len(), entries.len()));
    }
    let answers = response.results.into_iter().zip(entries).map(|(result, entry)| match result.outcome {
        Some(Outcome::Embedding(embedding)) if embedding.values.len() == dimensions => {
            let embedding = Embedding::of_length_one(embedding.values);
            embedding.ok_or_else(|| "a vector whose length is not 1".to_owned()).map_or_else(
                |problem| Answer::Again(internal(pool, lease, &problem)),
                |embedding| Answer::Done(Ok(embedding)),
            )
        }
        Some(Outcome::Embedding(embedding)) => {
            let problem = format!("a vector of {} dimensions, not {dimensions}", embedding.values.len());
            Answer::Again(internal(pool, lease, &problem))
        }
        Some(Outcome::Error(error)) => failure(pool, lease, entry, &error, limit),
        None => Answer::Again(internal(pool, lease, "neither a vector nor an error")),
    });
    Ended::Answered(answers.collect())
}

fn internal(pool: &Pool, lease: &Lease, problem: &str) -> EmbedError {
    EmbedError::Internal(format!("embedding pool `{}`: {}: {problem}", pool.name, lease.address()))
}

/// What it means that an input failed by itself.
fn failure(pool: &Pool, lease: &Lease, entry: &Entry, error: &pb::EmbedError, limit: Limit) -> Answer {
    let code = Code::from(error.code);
    if code == Code::InvalidArgument {
        Answer::Done(Err(invalid(error).into()))
    } else if code == Code::ResourceExhausted {
        Answer::Again(busy(pool, error.retry_delay.and_then(|delay| delay.try_into().ok())))
    } else if code == Code::DeadlineExceeded && limit.is_before_deadline(entry) {
        Answer::Again(busy(pool, None))
    } else if code == Code::DeadlineExceeded {
        Answer::Done(Err(EmbedError::DeadlineExceeded))
    } else if code == Code::Unavailable {
        Answer::Again(away(pool, lease, &error.message))
    } else {
        Answer::Again(internal(pool, lease, &format!("{code:?}: {}", error.message)))
    }
}

/// The same problem, with the field as the port names it: `content` of a photo.
fn invalid(error: &pb::EmbedError) -> Invalid {
    let start = format!("field `{}` ", error.field);
    let problem = error.message.strip_prefix(&start).unwrap_or(&error.message);
    let field = error.field.split_once('.').map_or("", |(_, field)| field);
    Invalid::new(field.strip_prefix("photo.").unwrap_or(field), problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_photo_is_named_as_the_port_names_it() {
        let error = |field: &str, message: &str| {
            invalid(&pb::EmbedError {
                code: 3,
                message: message.to_owned(),
                field: field.to_owned(),
                retry_delay: None,
            })
        };
        let content = error("inputs[3].photo.content", "field `inputs[3].photo.content` is not a picture");
        assert_eq!(content, Invalid::new("content", "is not a picture"));
        let text = error("inputs[0].text", "field `inputs[0].text` is empty");
        assert_eq!(text, Invalid::new("text", "is empty"));
        assert_eq!(error("", "is wrong").to_string(), "field `` is wrong");
    }
}
