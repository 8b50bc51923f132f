//! The other side of the gRPC service: calls one at a time or many, and streams as fast as the flow
//! control lets them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::tokio_stream::Stream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::grpc::{Measured, Way};
use crate::grpc_service::{
    BOTH, CONNECTION_WINDOW_BYTES, FRAME_BYTES, ONE_WAY, Plain, STREAM_WINDOW_BYTES, UNARY,
};
use crate::load::percentile;

/// Calls under way at a time, where there are many.
const AT_ONCE: usize = 64;

/// A stream looks at the clock once in this many messages.
const LOOK: u64 = 16;

/// Measures for so long, and prints what there was.
///
/// # Errors
/// When the server cannot be reached or fails.
pub(crate) async fn run(port: u16, way: Way, size: usize, time: Duration) -> io::Result<()> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"));
    let channel = endpoint
        .map_err(io::Error::other)?
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .connect()
        .await
        .map_err(io::Error::other)?;
    // The first call opens the connection; it is not counted.
    call(&mut Grpc::new(channel.clone()), Bytes::new()).await.map_err(io::Error::other)?;
    let payload = Bytes::from(vec![7; size]);
    let measured = match way {
        Way::One => calls(channel, 1, &payload, time).await,
        Way::Many => calls(channel, AT_ONCE, &payload, time).await,
        Way::Stream => one_way(channel, payload, time).await,
        Way::Both => both(channel, payload, time).await,
    };
    let Measured { messages, micros, p50, p99 } = measured.map_err(io::Error::other)?;
    println!("measured {messages} {micros} {p50} {p99}");
    Ok(())
}

fn path(text: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(text)
}

async fn ready(grpc: &mut Grpc<Channel>) -> Result<(), Status> {
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))
}

async fn call(grpc: &mut Grpc<Channel>, payload: Bytes) -> Result<Bytes, Status> {
    ready(grpc).await?;
    let answer = grpc.unary(Request::new(payload), path(UNARY), Plain).await?;
    Ok(answer.into_inner())
}

async fn calls(
    channel: Channel,
    at_once: usize,
    payload: &Bytes,
    time: Duration,
) -> Result<Measured, Status> {
    let (began, mut tasks) = (Instant::now(), Vec::new());
    for _ in 0..at_once {
        let (mut grpc, payload) = (Grpc::new(channel.clone()), payload.clone());
        tasks.push(tokio::spawn(async move {
            let mut took = Vec::new();
            while began.elapsed() < time {
                let at = Instant::now();
                call(&mut grpc, payload.clone()).await?;
                took.push(at.elapsed());
            }
            Ok::<_, Status>(took)
        }));
    }
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.map_err(|error| Status::internal(error.to_string()))??);
    }
    let lasted = began.elapsed();
    took.sort_unstable();
    let at = |part| micros(percentile(&took, part));
    Ok(Measured {
        messages: took.len() as u64,
        micros: micros(lasted),
        p50: at(0.5),
        p99: at(0.99),
    })
}

async fn one_way(channel: Channel, payload: Bytes, time: Duration) -> Result<Measured, Status> {
    let mut grpc = Grpc::new(channel);
    ready(&mut grpc).await?;
    let began = Instant::now();
    let request = Request::new(Said { payload, end: began + time, count: 0 });
    let answer = grpc.client_streaming(request, path(ONE_WAY), Plain).await?.into_inner();
    let count = answer[..].try_into().map(u64::from_le_bytes);
    let messages = count.map_err(|_| Status::internal("not a count"))?;
    Ok(Measured { messages, micros: micros(began.elapsed()), ..Measured::default() })
}

async fn both(channel: Channel, payload: Bytes, time: Duration) -> Result<Measured, Status> {
    let mut grpc = Grpc::new(channel);
    ready(&mut grpc).await?;
    let began = Instant::now();
    let request = Request::new(Said { payload, end: began + time, count: 0 });
    let mut answers = grpc.streaming(request, path(BOTH), Plain).await?.into_inner();
    let mut messages = 0;
    while answers.message().await?.is_some() {
        messages += 1;
    }
    Ok(Measured { messages, micros: micros(began.elapsed()), ..Measured::default() })
}

/// The same message again and again, until the time is over.
struct Said {
    payload: Bytes,
    end: Instant,
    count: u64,
}

impl Stream for Said {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.count += 1;
        if self.count.is_multiple_of(LOOK) && Instant::now() >= self.end {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(self.payload.clone()))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
