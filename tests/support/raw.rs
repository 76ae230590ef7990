//! A gRPC call by hand, whose body goes out in pieces.

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::{RecvStream, SendStream, client::ResponseFuture};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::TcpStream;

/// A call that is open. It brings no timer of its own, so that what ends it is the server.
pub struct RawCall {
    body: SendStream<Bytes>,
    response: ResponseFuture,
}

impl RawCall {
    /// Opens a connection and sends a call's headers. `path` is `/package.Service/Method`.
    pub async fn open(address: &str, path: &str, headers: &[(&str, &str)]) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post(format!("http://{address}{path}"));
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let (response, body) = client.ready().await.unwrap().send_request(request.body(()).unwrap(), false).unwrap();
        Self { body, response }
    }

    /// Sends bytes of the body.
    pub fn send(&mut self, bytes: Bytes) {
        self.body.send_data(bytes, false).unwrap();
    }

    /// Ends the body, if it goes on, and waits for the answer's `grpc-status`.
    pub async fn finish(mut self) -> String {
        self.body.send_data(Bytes::new(), true).unwrap();
        self.status().await
    }

    /// Waits for the answer's `grpc-status`, whether or not the body has ended.
    pub async fn status(self) -> String {
        let status = |headers: &HeaderMap| Some(headers.get("grpc-status")?.to_str().unwrap().to_owned());
        let (answer, body) = self.response.await.unwrap().into_parts();
        match status(&answer.headers) {
            Some(status) => status,
            None => status(&trailers(body).await).unwrap(),
        }
    }
}

async fn trailers(mut body: RecvStream) -> HeaderMap {
    while let Some(chunk) = body.data().await {
        body.flow_control().release_capacity(chunk.unwrap().len()).unwrap();
    }
    body.trailers().await.unwrap().unwrap()
}

/// A message as it stands in a gRPC body, cut in two.
pub fn halves(message: &impl Message) -> (Bytes, Bytes) {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut framed).unwrap();
    let second = framed.split_off(framed.len() / 2);
    (framed.freeze(), second.freeze())
}
