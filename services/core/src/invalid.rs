//! The one way to say that input is wrong.

use std::fmt;

/// Input that is wrong: the same input fails again. Names the field and, where there is one, the limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` {problem}")]
pub struct Invalid {
    /// Path of the field in the request, such as `signals[0].photo.content`.
    pub field: String,
    /// What is wrong with it, to be read after the field's name: "is empty", "is longer than 1024 bytes".
    pub problem: String,
}

impl Invalid {
    /// Names a field and its problem.
    pub fn new(field: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self { field: field.into(), problem: problem.to_string() }
    }

    /// The same problem, seen from the message that contains the field.
    #[must_use]
    pub fn within(self, parent: &str) -> Self {
        let field = if self.field.is_empty() { parent.to_owned() } else { format!("{parent}.{}", self.field) };
        Self { field, ..self }
    }
}
