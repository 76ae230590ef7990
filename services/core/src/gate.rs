//! What a new generation must show before it serves.

use crate::{
    embed::Embedding,
    index::{Generation, IndexError, IndexQuery, QueryVector, Target},
    product::ProductId,
};

/// How far below the best hit a product's own picture may lie and still count as found: the same picture under two
/// products scores equally for both, up to rounding.
const TIE: f32 = 1e-4;

/// A product and the vector of one of its pictures.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The product.
    pub id: ProductId,
    /// One of its picture's vectors.
    pub embedding: Embedding,
}

/// What the probes found.
#[derive(Debug, Clone, Default)]
pub struct GateReport {
    /// How many probes were made.
    pub probes: usize,
    /// The products that their own picture did not find first, ties aside.
    pub lost: Vec<ProductId>,
}

impl GateReport {
    /// The share of probes that found their product, 0 to 1; 1 without probes.
    pub fn found_share(&self) -> f64 {
        if self.probes == 0 {
            return 1.0;
        }
        #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts far below 2^53")]
        let share = 1.0 - self.lost.len() as f64 / self.probes as f64;
        share
    }
}

/// Searches for each probe's picture and looks whether its product comes first.
///
/// # Errors
/// When the index does not answer.
pub async fn check(generation: &dyn Generation, probes: &[Probe]) -> Result<GateReport, IndexError> {
    let mut report = GateReport { probes: probes.len(), lost: Vec::new() };
    for probe in probes {
        let vector = QueryVector { target: Target::Image, embedding: probe.embedding.clone(), share: 1.0 };
        let query = IndexQuery {
            vectors: vec![vector],
            filter: None,
            exclude: Vec::new(),
            offset: 0,
            // Room for as many variants as share one picture.
            limit: 50,
            score_min: None,
        };
        let hits = generation.search(query).await?;
        let best = hits.first().map_or(f32::NEG_INFINITY, |hit| hit.score);
        let found = hits.iter().take_while(|hit| hit.score >= best - TIE).any(|hit| hit.product.id == probe.id);
        if !found {
            report.lost.push(probe.id.clone());
        }
    }
    Ok(report)
}
