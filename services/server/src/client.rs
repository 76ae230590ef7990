//! `vitrine search`: asks a running server, and shows its answer.

mod filter;
mod show;

use std::{fs, path::Path, time::Duration};

use anyhow::Context as _;
use tonic::{Code, Request, Status, transport::Channel};
use tonic_types::StatusExt as _;
use vitrine_core::limits::MESSAGE_BYTES_MAX;
use vitrine_proto::v1::{
    Photo, SearchRequest, SearchResponse, Signal, recommendation_service_client::RecommendationServiceClient,
    signal::Source,
};

pub use self::filter::parse as parse_filter;
use crate::cli::SearchArguments;

/// Asks a running server and prints its answer.
///
/// # Errors
/// When the arguments are wrong, the server is away, or it refuses.
pub fn search(arguments: &SearchArguments) -> anyhow::Result<()> {
    let request = request(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start")?;
    let response = runtime.block_on(ask(&arguments.server, request, Duration::from_millis(arguments.deadline_ms)))?;
    if arguments.json {
        show::json(&response);
    } else {
        show::table(&response);
    }
    Ok(())
}

fn request(arguments: &SearchArguments) -> anyhow::Result<SearchRequest> {
    let photo = |path: &Path| -> anyhow::Result<Source> {
        let content = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        Ok(Source::Photo(Photo { content: content.into(), region: None }))
    };
    let photos = arguments.images.iter().map(|path| photo(path)).collect::<Result<Vec<_>, _>>()?;
    let texts = arguments.texts.iter().cloned().map(Source::Text);
    let likes = arguments.likes.iter().cloned().map(Source::ProductId);
    let sources = photos.into_iter().chain(texts).chain(likes);
    Ok(SearchRequest {
        catalog: arguments.catalog.clone(),
        signals: sources.map(|source| Signal { source: Some(source), weight: None }).collect(),
        filter: arguments.filter.as_deref().map(filter::parse).transpose().context("--filter")?,
        page_size: arguments.limit,
        page_token: arguments.page_token.clone(),
        score_min: None,
        bypass_cache: false,
    })
}

async fn ask(server: &str, request: SearchRequest, deadline: Duration) -> anyhow::Result<SearchResponse> {
    let channel = Channel::from_shared(server.to_owned())
        .with_context(|| format!("--server {server}"))?
        .connect_timeout(deadline)
        .connect()
        .await
        .with_context(|| format!("connect to {server}; is `vitrine serve` running?"))?;
    let mut client = RecommendationServiceClient::new(channel)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut request = Request::new(request);
    request.set_timeout(deadline);
    let response = client.search(request).await.map_err(|status| anyhow::anyhow!(explain(&status)))?;
    Ok(response.into_inner())
}

fn explain(status: &Status) -> String {
    match (status.code(), status.get_details_retry_info().and_then(|info| info.retry_delay)) {
        (Code::ResourceExhausted, Some(delay)) => {
            format!("{}: {} (try again in {delay:?})", status.code(), status.message())
        }
        (code, _) => format!("{code}: {}", status.message()),
    }
}
