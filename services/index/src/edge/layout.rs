//! Building graphs, and laying products out by category.
//!
//! Products of one category lie together, so that comparing them reads memory in its order, and have edges among themselves,
//! so that a large category can be searched by itself. A graph that is built in that order has too few edges that lead far. So
//! graphs are built of products as they came; then they are written once more in the new order, for which Qdrant takes over
//! the edges that there are (`incremental_hnsw_building`) and adds those of the categories.

use qdrant_edge::{CreateIndex, EdgeShard, FieldIndexOperations, HnswIndexConfig, OperationResult, UpdateOperation};
use vitrine_core::product::Schema;

use super::{
    graph::{CATEGORY_EDGES, quantisation},
    point::category_index,
};

/// Builds the graphs of a shard that has none yet, and lays it out.
pub(super) fn build(shard: &EdgeShard, schema: &Schema, graphs: HnswIndexConfig) -> OperationResult<()> {
    build_more(shard, graphs)?;
    let index = category_index(schema, quantisation(&shard.config()));
    let Some((field_name, field_type)) = index else { return Ok(()) };
    // When Qdrant writes products, it lays them out by an index that says so.
    let create = CreateIndex { field_name, field_schema: Some(field_type) };
    shard.update(UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(create)))?;
    // And those whose graph is to have other edges are written again.
    shard.set_hnsw_config(HnswIndexConfig { payload_m: Some(CATEGORY_EDGES), ..graphs })?;
    shard.optimize()?;
    Ok(())
}

/// Builds the graphs of what was added to a shard that was built before.
pub(super) fn build_more(shard: &EdgeShard, graphs: HnswIndexConfig) -> OperationResult<()> {
    shard.set_hnsw_config(graphs)?;
    shard.optimize()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::iter;

    use fastrand::Rng;
    use qdrant_edge::{
        EdgeConfig, EdgeOptimizersConfig, PointId, PointInsertOperations, PointOperations, QueryRequest, SearchParams,
    };
    use vitrine_core::{
        embed::Embedding,
        index::{IndexedProduct, QueryVector, Target},
        product::{AttributeSpec, AttributeType, AttributeValue},
    };

    use super::*;
    use crate::{
        edge::{
            filter::to_filter,
            generation::{nearest_to, request},
            graph::{config, nearest},
            point::{path, product_at, whole_point},
        },
        filter::Clause,
        payload::point_id,
        quantisation::Quantisation,
    };

    const DIMENSIONS: usize = 16;
    const CATEGORIES: usize = 4;
    const PRODUCTS: usize = 2000;

    fn category(number: usize) -> String {
        format!("Home > {}", number % CATEGORIES)
    }

    /// Product n is of category n modulo their number, which says where it is, but for some noise.
    fn product(number: usize, rng: &mut Rng) -> IndexedProduct {
        let noise = iter::repeat_with(|| rng.f32() - 0.5);
        let values = noise.enumerate().map(|(at, noise)| noise + if at == number % CATEGORIES { 2.0 } else { 0.0 });
        let path = AttributeValue::Path(category(number).parse().unwrap());
        product_at(number, values.take(DIMENSIONS).collect(), ("product_type", path))
    }

    fn find(shard: &EdgeShard, query: &Embedding, within: usize, params: SearchParams) -> Vec<PointId> {
        let query = QueryVector { target: Target::Image, embedding: query.clone(), share: 1.0 };
        let filter = to_filter(Clause::Texts("under.product_type".to_owned(), vec![category(within)]));
        let request = QueryRequest { filter: Some(filter), params: Some(params), ..request(nearest_to(&query), 10) };
        shard.query(request).unwrap().into_iter().map(|point| point.id).collect()
    }

    #[test]
    fn a_category_is_found_by_its_own_edges_also_by_what_is_nothing_like_it() {
        let directory = tempfile::tempdir().unwrap();
        let indexed = EdgeOptimizersConfig { indexing_threshold: Some(1), ..EdgeOptimizersConfig::default() };
        let config = EdgeConfig { optimizers: indexed, ..config(DIMENSIONS, Quantisation::None) };
        let graphs = HnswIndexConfig { full_scan_threshold: 1, ..config.hnsw_config };
        let shard = EdgeShard::new(directory.path(), config).unwrap();
        let mut rng = Rng::with_seed(1);
        let products: Vec<_> = (0..PRODUCTS).map(|number| product(number, &mut rng)).collect();
        let points = products.iter().map(|product| whole_point(product).into()).collect();
        let upsert = PointOperations::UpsertPoints(PointInsertOperations::PointsList(points));
        shard.update(UpdateOperation::PointOperation(upsert)).unwrap();
        let path_of = AttributeSpec { kind: AttributeType::Path, currencies: [].into() };
        let schema = Schema { attributes: [("product_type".to_owned(), path_of)].into() };
        build(&shard, &schema, graphs).unwrap();

        let info = shard.info();
        assert_eq!(
            (info.points_count, info.indexed_vectors_count),
            (PRODUCTS, 3 * PRODUCTS),
            "pictures, texts and words"
        );
        assert_eq!(info.payload_schema.keys().collect::<Vec<_>>(), [&path("under.product_type")]);
        assert_eq!(shard.config().hnsw_config.payload_m, Some(CATEGORY_EDGES));
        let exactly = SearchParams { exact: true, ..SearchParams::default() };
        let (mut found, mut wanted) = (0, 0);
        for (number, asked) in products.iter().enumerate().take(40) {
            let [embedding] = asked.image_embeddings.as_slice() else { panic!("one picture") };
            for within in 0..CATEGORIES {
                let truth = find(&shard, embedding, within, exactly);
                let answer = find(&shard, embedding, within, nearest(10, 500, Quantisation::None));
                found += truth.iter().filter(|point| answer.contains(point)).count();
                wanted += truth.len();
                if within == number % CATEGORIES {
                    assert_eq!(answer.first(), Some(&PointId::Uuid(point_id(&asked.product.id))));
                }
            }
        }
        assert!(wanted == 40 * CATEGORIES * 10 && found >= wanted - 5, "{found} of {wanted}");
    }
}
