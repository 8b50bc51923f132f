//! The gRPC service that immortals are measured beside, as a server has it: messages are bytes as
//! they are, so that neither a code generator nor the encoding of messages comes into it.

use std::convert::Infallible;
use std::io;

use bytes::{Buf, BufMut, Bytes};
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{BoxFuture, Context, Poll, Service, http};
use tonic::server::{ClientStreamingService, Grpc, StreamingService, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// Answers with what it was sent.
pub(crate) const UNARY: &str = "/bench.Load/Unary";
/// Answers at the end, with the number of messages.
pub(crate) const ONE_WAY: &str = "/bench.Load/OneWay";
/// Sends each message back.
pub(crate) const BOTH: &str = "/bench.Load/Both";

/// So much of one stream may be under way: as much as an immortal may have under way to another.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// So much of one connection may be under way.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// The longest frame of HTTP/2, in bytes.
pub(crate) const FRAME_BYTES: u32 = 256 << 10;

/// A buffer begins with this many bytes...
const BUFFER_BYTES: usize = 72 << 10;

/// ... and messages that are ready are joined into one piece of this many.
const JOINED_BYTES: usize = 64 << 10;

/// Bytes as they are.
#[derive(Clone, Copy, Default)]
pub(crate) struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, JOINED_BYTES)
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, JOINED_BYTES)
    }
}

/// Serves on a free port, and prints which.
///
/// # Errors
/// When there is no port, or the server fails.
pub(crate) async fn serve() -> io::Result<()> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("port {}", listener.local_addr()?.port());
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .serve_with_incoming(Load, TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await
        .map_err(io::Error::other)
}

#[derive(Clone, Copy)]
struct Load;

impl Service<http::Request<Body>> for Load {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(Plain);
            Ok(match request.uri().path() {
                UNARY => grpc.unary(Self, request).await,
                ONE_WAY => grpc.client_streaming(Self, request).await,
                BOTH => grpc.streaming(Self, request).await,
                other => Status::unimplemented(other).into_http(),
            })
        })
    }
}

impl UnaryService<Bytes> for Load {
    type Response = Bytes;
    type Future = std::future::Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}

impl ClientStreamingService<Bytes> for Load {
    type Response = Bytes;
    type Future = BoxFuture<Response<Bytes>, Status>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        Box::pin(async move {
            let mut messages = request.into_inner();
            let mut count = 0_u64;
            while messages.message().await?.is_some() {
                count += 1;
            }
            Ok(Response::new(Bytes::copy_from_slice(&count.to_le_bytes())))
        })
    }
}

impl StreamingService<Bytes> for Load {
    type Response = Bytes;
    type ResponseStream = Streaming<Bytes>;
    type Future = std::future::Ready<Result<Response<Streaming<Bytes>>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}
