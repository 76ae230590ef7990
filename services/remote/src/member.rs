//! One endpoint of a pool, over gRPC.

use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt as _, stream::BoxStream};
use tonic::{
    Request, Status,
    transport::{Channel, ClientTlsConfig, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use vitrine_core::{embed::ModelInfo, limits::MESSAGE_BYTES_MAX};
use vitrine_proto::v1::{
    EmbedRequest, EmbedResponse, GetModelRequest, embedding_service_client::EmbeddingServiceClient,
    embedding_service_server::SERVICE_NAME,
};

use crate::{embedder::RemoteError, options::PoolUrl};

/// Longest wait for a connection. 2 s: a second packet after a lost first one is answered within it.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How often a connection is asked whether somebody is still there, and how long the answer may take: a process that
/// hangs, or is cut off, is left out within both together.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
const KEEP_ALIVE_WAIT: Duration = Duration::from_secs(2);
/// Bytes that the pool may send before they are read; photos go the other way.
const WINDOW_BYTES: u32 = 1 << 20;

/// Whoever serves `EmbeddingService`.
#[async_trait]
pub(crate) trait Member: Send + Sync + 'static {
    /// The model that it runs.
    async fn model(&self) -> Result<ModelInfo, Status>;

    /// Whether it can embed: now, and at each change.
    async fn watch(&self) -> Result<BoxStream<'static, Result<bool, Status>>, Status>;

    /// Embeds; it is told how much time it has. Dropping the future takes the request back.
    async fn embed(&self, request: EmbedRequest, time: Duration) -> Result<EmbedResponse, Status>;
}

/// A [`Member`] behind a connection that is made when it is needed, and made again when it breaks.
#[derive(Debug)]
pub(crate) struct GrpcMember {
    channel: Channel,
}

impl GrpcMember {
    pub(crate) fn new(url: &PoolUrl) -> Result<Self, RemoteError> {
        let wrong = |source| RemoteError::Endpoint { url: url.to_string(), source };
        let mut endpoint = Endpoint::from_shared(url.to_string())
            .map_err(wrong)?
            .connect_timeout(CONNECT_MAX)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_WAIT)
            .keep_alive_while_idle(true);
        if url.is_tls() {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(wrong)?;
        }
        Ok(Self { channel: endpoint.connect_lazy() })
    }

    fn client(&self) -> EmbeddingServiceClient<Channel> {
        EmbeddingServiceClient::new(self.channel.clone())
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }
}

#[async_trait]
impl Member for GrpcMember {
    async fn model(&self) -> Result<ModelInfo, Status> {
        let answer = self.client().get_model(GetModelRequest {}).await?.into_inner();
        match usize::try_from(answer.dimensions) {
            Ok(dimensions) if dimensions > 0 && !answer.model_fingerprint.is_empty() => {
                Ok(ModelInfo { fingerprint: answer.model_fingerprint, dimensions })
            }
            _ => Err(Status::internal("does not say which model it runs")),
        }
    }

    async fn watch(&self) -> Result<BoxStream<'static, Result<bool, Status>>, Status> {
        let request = HealthCheckRequest { service: SERVICE_NAME.to_owned() };
        let statuses = HealthClient::new(self.channel.clone()).watch(request).await?.into_inner();
        Ok(statuses.map(|answer| Ok(answer?.status() == ServingStatus::Serving)).boxed())
    }

    async fn embed(&self, request: EmbedRequest, time: Duration) -> Result<EmbedResponse, Status> {
        let mut request = Request::new(request);
        request.set_timeout(time);
        Ok(self.client().embed(request).await?.into_inner())
    }
}
