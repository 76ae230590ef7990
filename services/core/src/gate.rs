//! What a new generation must show before it serves.

use crate::{
    embed::Embedding,
    index::{Generation, IndexError, IndexQuery, QueryVector, Target},
    product::ProductId,
};

/// How far a cosine may be from what it should be, 2 in 2^11: an index may keep floats of 16 bits, which have 11 binary digits, and
/// round both vectors.
const TIE: f32 = 1e-3;

/// A product and the vector of one of its pictures.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The product.
    pub id: ProductId,
    /// One of its picture's vectors; `None` for that of its first picture, as the generation has it.
    pub embedding: Option<Embedding>,
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

/// Looks whether each probe's product is there with its picture, and whether a search for the picture finds that
/// product, or one that shares the picture.
///
/// # Errors
/// When the index does not answer.
pub async fn check(generation: &dyn Generation, probes: &[Probe]) -> Result<GateReport, IndexError> {
    let mut report = GateReport { probes: probes.len(), lost: Vec::new() };
    for probe in probes {
        if !finds_itself(generation, probe).await? {
            report.lost.push(probe.id.clone());
        }
    }
    Ok(report)
}

async fn finds_itself(generation: &dyn Generation, probe: &Probe) -> Result<bool, IndexError> {
    let Some(indexed) = generation.get(&probe.id).await? else { return Ok(false) };
    let pictures = &indexed.image_embeddings;
    let Some(embedding) = probe.embedding.as_ref().or(pictures.first()) else { return Ok(false) };
    let query = IndexQuery {
        vectors: vec![QueryVector { target: Target::Image, embedding: embedding.clone(), share: 1.0 }],
        keywords: None,
        filter: None,
        exclude: Vec::new(),
        offset: 0,
        limit: 1,
        score_min: None,
    };
    let best = generation.search(query).await?.first().map_or(f32::NEG_INFINITY, |hit| hit.score);
    let own = pictures.iter().map(|picture| picture.cosine(embedding)).fold(f32::NEG_INFINITY, f32::max);
    Ok(own >= 1.0 - TIE && best >= own - TIE)
}
