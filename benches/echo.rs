//! `grpc-echo`: the least that a server with tonic does for a search: it reads the request and sends the same answer
//! every time. What a remembered answer of Vitrine costs is compared with it.
//!
//! ```text
//! grpc-echo --response FILE --listen 127.0.0.1:50052
//! ```

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;
use prost::Message as _;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};
use vitrine_core::limits::MESSAGE_BYTES_MAX;
use vitrine_proto::v1::{
    SearchRequest, SearchResponse, SearchUploadRequest, SearchUploadResponse,
    recommendation_service_server::{RecommendationService, RecommendationServiceServer},
};

/// As `vitrine serve` has it, so that a photo needs no more turns to arrive.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// Answers every search with the same bytes.
#[derive(Debug, Parser)]
#[command(name = "grpc-echo", version)]
struct Arguments {
    /// File of the answer: a `vitrine.v1.SearchResponse`, encoded.
    #[arg(long, value_name = "FILE")]
    response: PathBuf,
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50052")]
    listen: SocketAddr,
}

struct Echo(SearchResponse);

#[tonic::async_trait]
impl RecommendationService for Echo {
    async fn search(&self, _: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }

    async fn search_upload(
        &self,
        _: Request<Streaming<SearchUploadRequest>>,
    ) -> Result<Response<SearchUploadResponse>, Status> {
        Err(Status::unimplemented("only searches are answered"))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { response, listen } = Arguments::parse();
    let content = fs::read(&response).with_context(|| format!("--response: read {}", response.display()))?;
    let answer = SearchResponse::decode(&*content).context("--response: is no SearchResponse")?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(4 * STREAM_WINDOW_BYTES)
        .add_service(RecommendationServiceServer::new(Echo(answer)).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await
        .context("serve")
}
