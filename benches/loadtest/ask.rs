//! One request and its answer.

use std::time::Duration;

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use tonic::Code;
use tonic_types::StatusExt as _;
use vitrine_proto::v1::{EmbedResponse, embed_result::Outcome as Embedded};

use crate::{connection::Connections, mix::Method, status::Status, target::Target};

/// How much longer than its deadline an answer is waited for: long enough to see a server that answers too late, and
/// short enough to bound the end of a run.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// Sends framed requests.
///
/// Answers to searches are not decoded: that would cost the machine, which the server often shares, as much as the
/// server's work on a remembered answer.
#[derive(Debug)]
pub(crate) struct Asker {
    connections: Connections,
    search: Uri,
    embed: Uri,
    timeout: HeaderValue,
    wait_max: Duration,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: Status,
    /// What the server said to it, or why the connection failed; nothing for a success.
    pub(crate) message: Option<String>,
    /// Whether the refusal said when to try again: `google.rpc.RetryInfo`.
    pub(crate) retry_info: bool,
    /// Whether it is a success without a product, or without a vector.
    pub(crate) empty: bool,
}

impl Asker {
    /// Asks over these connections, with this deadline.
    pub(crate) fn new(connections: Connections, target: &Target, deadline_ms: u32) -> anyhow::Result<Self> {
        let uri = |method: &str| {
            let uri = Uri::builder().scheme("http").authority(target.authority.clone());
            uri.path_and_query(format!("/vitrine.v1.{method}")).build().context("name the method")
        };
        Ok(Self {
            connections,
            search: uri("RecommendationService/Search")?,
            embed: uri("EmbeddingService/Embed")?,
            timeout: HeaderValue::try_from(format!("{deadline_ms}m")).context("write the deadline")?,
            wait_max: Duration::from_millis(deadline_ms.into()) + GRACE,
        })
    }

    /// Sends a request and waits for the whole answer.
    pub(crate) async fn ask(&self, method: Method, frame: Bytes) -> Outcome {
        let failed = |status, message| Outcome { status, message: Some(message), retry_info: false, empty: false };
        match tokio::time::timeout(self.wait_max, self.exchange(method, frame)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => failed(Status::ConnectionLost, format!("{error:#}")),
            Err(_) => failed(Status::NoAnswer, format!("given up after {:?}", self.wait_max)),
        }
    }

    async fn exchange(&self, method: Method, frame: Bytes) -> anyhow::Result<Outcome> {
        let mut sender = self.connections.next().await?;
        let (uri, mut answer) = match method {
            Method::Search => (&self.search, Answer::default()),
            Method::Embed => (&self.embed, Answer { kept: Some(Vec::new()), ..Answer::default() }),
        };
        let request = Request::post(uri.clone())
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
            .header(header::TE, HeaderValue::from_static("trailers"))
            .header("grpc-timeout", self.timeout.clone())
            .body(Full::new(frame))?;
        let (head, mut body) = sender.send_request(request).await?.into_parts();
        let mut trailers = None;
        while let Some(part) = body.frame().await {
            match part?.into_data() {
                Ok(data) => answer.read(&data),
                Err(part) => trailers = part.into_trailers().ok(),
            }
        }
        // An answer without a message has its status in the head.
        let status = trailers.filter(|trailers| trailers.contains_key(GRPC_STATUS)).unwrap_or(head.headers);
        Ok(outcome(head.status, status, &answer))
    }
}

const GRPC_STATUS: &str = "grpc-status";

/// What is looked at of an answer while it passes.
#[derive(Debug, Default)]
struct Answer {
    length: usize,
    /// First byte of the message, behind the five of the frame's head.
    first: Option<u8>,
    /// All of it, where it is to be decoded.
    kept: Option<Vec<u8>>,
}

impl Answer {
    fn read(&mut self, data: &[u8]) {
        let place = 5_usize.checked_sub(self.length);
        self.first = self.first.or_else(|| data.get(place?).copied());
        self.length += data.len();
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(data);
        }
    }

    /// What became of the first input without a vector, where vectors were asked for: an answer that succeeds says of
    /// each input what became of it.
    fn failed_input(&self) -> Option<(Code, String)> {
        let message = self.kept.as_deref()?.get(5..)?;
        let Ok(response) = EmbedResponse::decode(message) else {
            return Some((Code::Internal, "the answer cannot be read".to_owned()));
        };
        response.results.into_iter().find_map(|result| match result.outcome {
            Some(Embedded::Embedding(_)) => None,
            Some(Embedded::Error(error)) => Some((Code::from_i32(error.code), error.message)),
            None => Some((Code::Internal, "an input has neither a vector nor an error".to_owned())),
        })
    }
}

/// Key of `SearchResponse.results` and of `EmbedResponse.results`. Fields are written in the order of their numbers; it
/// is the first of both.
const RESULTS_KEY: u8 = 1 << 3 | 2;

fn outcome(http_status: StatusCode, mut headers: HeaderMap, answer: &Answer) -> Outcome {
    let of = |code: Code, message| Outcome { status: code.into(), message, retry_info: false, empty: false };
    let Some(code) = headers.get(GRPC_STATUS) else {
        return of(Code::Unknown, Some(format!("HTTP {http_status} without a grpc-status")));
    };
    let code = Code::from_bytes(code.as_bytes());
    if code == Code::Ok && answer.length < 5 {
        return of(Code::Internal, Some("no message came".to_owned()));
    }
    if code == Code::Ok {
        if let Some((code, message)) = answer.failed_input() {
            return of(code, Some(message));
        }
        return Outcome { empty: answer.first != Some(RESULTS_KEY), ..of(Code::Ok, None) };
    }
    // Taken out: tonic reads details without forgiveness.
    let details = headers.remove("grpc-status-details-bin");
    let status = tonic::Status::from_header_map(&headers);
    let retry_info = details.is_some_and(|details| has_retry_info(&details));
    Outcome { retry_info, ..of(code, status.map(|status| status.message().to_owned())) }
}

fn has_retry_info(details: &HeaderValue) -> bool {
    let padded = details.as_bytes();
    let bare = padded.iter().rposition(|byte| *byte != b'=').and_then(|last| padded.get(..=last));
    let details = bare.and_then(|bare| BASE64_STANDARD_NO_PAD.decode(bare).ok());
    details.is_some_and(|details| {
        let status = tonic::Status::with_details(Code::ResourceExhausted, "", details.into());
        status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some())
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use hyper::{body::Incoming, server::conn::http2::Builder, service::service_fn};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::{
        net::TcpListener,
        sync::mpsc::{UnboundedSender, unbounded_channel},
        task::AbortHandle,
    };
    use tonic_types::{ErrorDetails, StatusExt as _};
    use vitrine_proto::v1::{EmbedError, EmbedResult, Embedding, SearchResponse, SearchResult};

    use super::*;

    fn read(parts: &[&[u8]]) -> Answer {
        let mut answer = Answer::default();
        for part in parts {
            answer.read(part);
        }
        answer
    }

    fn headers(code: &str) -> HeaderMap {
        HeaderMap::from_iter([(GRPC_STATUS.parse().unwrap(), HeaderValue::from_str(code).unwrap())])
    }

    #[test]
    fn a_success_without_a_product_is_seen_however_the_bytes_are_cut() {
        let of = |results| {
            let generation = "7".to_owned();
            SearchResponse { results, generation, ..SearchResponse::default() }.encode_to_vec()
        };
        for (message, empty) in [(of(vec![]), true), (of(vec![SearchResult::default()]), false)] {
            let framed = [&[0, 0, 0, 0, 9], message.as_slice()].concat();
            for cut in 0..framed.len() {
                let (head, tail) = framed.split_at(cut);
                let outcome = outcome(StatusCode::OK, headers("0"), &read(&[head, tail]));
                assert_eq!((outcome.status, outcome.empty), (Status::OK, empty), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_batch_succeeds_only_if_each_of_its_inputs_does() {
        let vector = || EmbedResult { outcome: Some(Embedded::Embedding(Embedding { values: vec![1.0] })) };
        let refused = |message: &str| EmbedResult {
            outcome: Some(Embedded::Error(EmbedError {
                code: 8,
                message: message.to_owned(),
                ..EmbedError::default()
            })),
        };
        let of = |results| {
            let message = EmbedResponse { results, ..EmbedResponse::default() }.encode_to_vec();
            let mut answer = Answer { kept: Some(Vec::new()), ..Answer::default() };
            answer.read(&[&[0, 0, 0, 0, 9], message.as_slice()].concat());
            outcome(StatusCode::OK, headers("0"), &answer)
        };
        let all = of(vec![vector(), vector()]);
        assert_eq!((all.status, all.empty), (Status::OK, false));
        let part = of(vec![vector(), refused("the vision queue is full"), refused("too")]);
        assert_eq!((part.status, part.message.as_deref()), (Status::REFUSED, Some("the vision queue is full")));
        assert_eq!(of(vec![EmbedResult::default()]).status, Code::Internal.into());
        assert!(of(vec![]).empty);
    }

    #[test]
    fn a_refusal_is_asked_for_its_retry_info() {
        let refused = |details| tonic::Status::with_error_details(Code::ResourceExhausted, "a queue is full", details);
        let later = ErrorDetails::with_retry_info(Some(Duration::from_millis(100)));
        for (status, expected) in [(refused(later), true), (refused(ErrorDetails::new()), false)] {
            let headers = status.into_http::<()>().into_parts().0.headers;
            let outcome = outcome(StatusCode::OK, headers, &Answer::default());
            assert_eq!((outcome.status, outcome.retry_info), (Status::REFUSED, expected));
            assert_eq!(outcome.message.as_deref(), Some("a queue is full"));
        }
    }

    /// A server that finds one product in everything, and tells of each connection how to break it.
    async fn serve(connections: UnboundedSender<AbortHandle>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = service_fn(|request: Request<Incoming>| async {
                    assert_eq!(request.headers()["grpc-timeout"], "60000m");
                    let frame = request.into_body().collect().await?.to_bytes();
                    let found: &[u8] = if frame == "found" { &[0, 0, 0, 0, 2, RESULTS_KEY, 0] } else { &[0; 5] };
                    let body = Full::new(Bytes::from_static(found));
                    Ok::<_, hyper::Error>(http::Response::new(body.with_trailers(async { Some(Ok(headers("0"))) })))
                });
                let connection = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer);
                drop(connections.send(tokio::spawn(connection).abort_handle()));
            }
        });
        address
    }

    #[tokio::test]
    async fn answers_are_read_to_their_trailers_and_a_broken_connection_is_made_again() {
        let (made, mut connections) = unbounded_channel();
        let target = Target::find(&format!("http://{}", serve(made).await), false).unwrap();
        let asker = Asker::new(Connections::open(&target, 1).await.unwrap(), &target, 60_000).unwrap();
        for (frame, empty) in [("found", false), ("nothing", true)] {
            let outcome = asker.ask(Method::Search, frame.into()).await;
            assert_eq!((outcome.status, outcome.empty), (Status::OK, empty), "{outcome:?}");
        }
        connections.recv().await.unwrap().abort();
        let again = connections.recv();
        let asking = async {
            // What is asked while it breaks is lost, and counted so.
            while let outcome = asker.ask(Method::Search, "found".into()).await
                && outcome.status != Status::OK
            {
                assert_eq!(outcome.status, Status::ConnectionLost, "{outcome:?}");
            }
        };
        assert!(tokio::join!(again, asking).0.is_some());
    }

    #[test]
    fn what_is_not_grpc_is_counted_and_never_a_panic() {
        let mut broken = headers("8");
        broken.insert("grpc-status-details-bin", HeaderValue::from_static("%%%"));
        let refused = outcome(StatusCode::OK, broken, &Answer::default());
        assert_eq!((refused.status, refused.retry_info), (Status::REFUSED, false));
        let page = outcome(StatusCode::NOT_FOUND, HeaderMap::new(), &Answer::default());
        assert_eq!(page.status, Code::Unknown.into());
        let bare = outcome(StatusCode::OK, headers("0"), &Answer::default());
        assert_eq!(bare.status, Code::Internal.into());
    }
}
