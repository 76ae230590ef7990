//! `RecommendationService`.

use tonic::{Request, Response, Status, Streaming};
use vitrine_proto::v1::{self as pb, recommendation_service_server::RecommendationService};

use super::{Service, call_of, from_pb, status, to_pb, upload};

#[tonic::async_trait]
impl RecommendationService for Service {
    async fn search(&self, request: Request<pb::SearchRequest>) -> Result<Response<pb::SearchResponse>, Status> {
        let mut call = call_of(&request)?;
        let request = request.into_inner();
        call.bypass_cache = request.bypass_cache;
        let request = from_pb::search_request(request, None).map_err(status::from_invalid)?;
        let response = Box::pin(self.parts()?.search.search(request, call)).await.map_err(status::from_search)?;
        Ok(Response::new(to_pb::search_response(&response)))
    }

    async fn search_upload(
        &self,
        request: Request<Streaming<pb::SearchUploadRequest>>,
    ) -> Result<Response<pb::SearchUploadResponse>, Status> {
        let mut call = call_of(&request)?;
        let (request, photo) = upload::collect(&mut request.into_inner()).await?;
        let uploaded = upload::field(&request);
        call.bypass_cache = request.bypass_cache;
        let request = from_pb::search_request(request, Some(photo)).map_err(status::from_invalid)?;
        let response = Box::pin(self.parts()?.search.search(request, call)).await;
        let response = response.map_err(|error| status::from_search(upload::name_field(error, &uploaded)))?;
        Ok(Response::new(pb::SearchUploadResponse { response: Some(to_pb::search_response(&response)) }))
    }
}
