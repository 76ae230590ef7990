//! Points that were found, scored anew by a formula.

use ::qdrant_client::qdrant::{Expression, Formula, MultExpression, PointStruct, SumExpression, expression::Variant};
use tonic::Status;

use super::{Collection, sorted};

impl Collection {
    /// Those that were found, with the scores that a formula makes of theirs, best first.
    pub(super) fn scored_anew<'a>(
        &self,
        formula: &Formula,
        found: impl Iterator<Item = (f32, &'a PointStruct)>,
    ) -> Result<Vec<(f32, &'a PointStruct)>, Status> {
        let wrong = || Status::invalid_argument("a formula without an expression");
        let expression = formula.expression.as_ref().ok_or_else(wrong)?;
        let scored = found.map(|(score, point)| Ok((narrowed(self.value(expression, score, point)?), point)));
        Ok(sorted(scored.collect::<Result<_, Status>>()?))
    }

    fn value(&self, expression: &Expression, score: f32, point: &PointStruct) -> Result<f64, Status> {
        let each = |parts: &[Expression]| {
            let values = parts.iter().map(|part| self.value(part, score, point));
            values.collect::<Result<Vec<f64>, Status>>()
        };
        match expression.variant.as_ref() {
            Some(Variant::Constant(value)) => Ok(f64::from(*value)),
            Some(Variant::Variable(name)) if name == "$score" => Ok(f64::from(score)),
            Some(Variant::Condition(condition)) => Ok(f64::from(u8::from(self.meets(condition, point)?))),
            Some(Variant::Sum(SumExpression { sum })) => Ok(each(sum)?.iter().sum()),
            Some(Variant::Mult(MultExpression { mult })) => Ok(each(mult)?.iter().product()),
            other => Err(Status::unimplemented(format!("{other:?}"))),
        }
    }
}

#[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "Qdrant's scores are of f32")]
fn narrowed(value: f64) -> f32 {
    value as f32
}
