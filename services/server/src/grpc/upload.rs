//! Collecting the photo of an upload stream.

use bytes::{Bytes, BytesMut};
use tonic::{Status, Streaming};
use vitrine_core::{Invalid, limits::PHOTO_BYTES_MAX, search::SearchError};
use vitrine_proto::v1 as pb;

use super::status;

/// The stream's request and its photo, at most [`PHOTO_BYTES_MAX`] bytes.
pub(super) async fn collect(
    stream: &mut Streaming<pb::SearchUploadRequest>,
) -> Result<(pb::SearchRequest, Bytes), Status> {
    use pb::search_upload_request::Part;
    let invalid = |field: &str, problem: String| status::from_invalid(Invalid::new(field, problem));
    let request = match next(stream).await? {
        Some(Part::Request(request)) => request,
        Some(Part::Chunk(_)) | None => return Err(invalid("request", "is not the stream's first message".to_owned())),
    };
    let mut photo = BytesMut::new();
    while let Some(part) = next(stream).await? {
        match part {
            Part::Chunk(chunk) if photo.len() + chunk.len() > PHOTO_BYTES_MAX => {
                return Err(invalid(
                    "chunk",
                    format!("and those before it make more than the limit of {PHOTO_BYTES_MAX} bytes"),
                ));
            }
            Part::Chunk(chunk) => photo.extend_from_slice(&chunk),
            Part::Request(_) => return Err(invalid("request", "is sent twice".to_owned())),
        }
    }
    if photo.is_empty() {
        return Err(invalid("chunk", "is missing: the stream has no photo".to_owned()));
    }
    Ok((request, photo.freeze()))
}

async fn next(
    stream: &mut Streaming<pb::SearchUploadRequest>,
) -> Result<Option<pb::search_upload_request::Part>, Status> {
    match stream.message().await? {
        None => Ok(None),
        Some(pb::SearchUploadRequest { part: Some(part) }) => Ok(Some(part)),
        Some(pb::SearchUploadRequest { part: None }) => {
            Err(status::from_invalid(Invalid::new("part", "is missing: one of request and chunk")))
        }
    }
}

/// What the search calls the photo of the stream when it is wrong.
pub(super) fn field(request: &pb::SearchRequest) -> String {
    let is_uploaded = |signal: &pb::Signal| matches!(signal.source, Some(pb::signal::Source::UploadedPhoto(_)));
    let position = request.signals.iter().position(is_uploaded).unwrap_or_default();
    format!("signals[{position}].photo.content")
}

/// The error, naming what the caller sent.
pub(super) fn name_field(error: SearchError, uploaded: &str) -> SearchError {
    if let SearchError::Invalid(invalid) = &error
        && invalid.field == uploaded
    {
        return Invalid::new("chunk", &invalid.problem).into();
    }
    error
}
