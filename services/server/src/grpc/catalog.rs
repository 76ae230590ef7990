//! `CatalogService`.

use tonic::{Request, Response, Status};
use vitrine_core::product::{CatalogName, ProductId};
use vitrine_proto::v1::{self as pb, catalog_service_server::CatalogService};

use super::{Service, status, to_pb};

#[tonic::async_trait]
impl CatalogService for Service {
    async fn get_product(
        &self,
        request: Request<pb::GetProductRequest>,
    ) -> Result<Response<pb::GetProductResponse>, Status> {
        let request = request.into_inner();
        let catalog = CatalogName::new(&request.catalog).map_err(status::from_invalid)?;
        let id = ProductId::new(request.product_id, "product_id").map_err(status::from_invalid)?;
        let product = self.parts()?.search.product(&catalog, &id).await;
        let (product, generation) = product.map_err(status::from_search)?;
        Ok(Response::new(pb::GetProductResponse { product: Some(to_pb::product(product)), generation }))
    }
}
