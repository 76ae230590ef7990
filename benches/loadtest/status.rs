//! What became of a request.

use serde::{Serialize, Serializer};
use tonic::Code;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    /// The server answered with this gRPC code.
    Answered(i32),
    /// The connection could not be made, or broke.
    ConnectionLost,
    /// No answer came, not even two seconds after the deadline.
    NoAnswer,
    /// It was due while as many as `--in-flight-max` were in flight, and was left out.
    NotSent,
}

impl Status {
    /// Success.
    pub(crate) const OK: Self = Self::Answered(0);
    /// The server refused for lack of room: `RESOURCE_EXHAUSTED`.
    pub(crate) const REFUSED: Self = Self::Answered(8);

    /// Whether an answer of the server came, of whatever kind.
    pub(crate) fn is_answer(self) -> bool {
        matches!(self, Self::Answered(_))
    }

    /// Its name in reports: that of the gRPC code, or our own.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Answered(code) => name(Code::from_i32(code)),
            Self::ConnectionLost => "CONNECTION_LOST",
            Self::NoAnswer => "NO_ANSWER",
            Self::NotSent => "NOT_SENT",
        }
    }
}

impl From<Code> for Status {
    fn from(code: Code) -> Self {
        Self::Answered(code.into())
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_statuses_are_the_codes_they_stand_for() {
        assert_eq!(Status::OK, Code::Ok.into());
        assert_eq!(Status::REFUSED, Code::ResourceExhausted.into());
    }
}
