//! HTTP: `GET /v1/status` and `GET /metrics`, nothing that changes anything.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use axum::{Json, Router};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Sleep, sleep};

use super::metrics;
use crate::agent::Shared;

/// Connections at a time on one listener; more wait to be accepted.
const CONNECTIONS: usize = 64;
/// How long a connection may last, whatever its client does or does not. A scraper that keeps its
/// connection for longer opens another.
const LIFETIME: Duration = Duration::from_secs(10);

/// Answers until `closing` is true.
pub(crate) async fn serve<L: Listener>(
    listener: L,
    shared: Arc<Shared>,
    mut closing: watch::Receiver<bool>,
) where
    L::Addr: std::fmt::Debug,
{
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/metrics", get(scrape))
        .with_state(shared);
    let bounded = Bounded {
        listener,
        slots: Arc::new(Semaphore::new(CONNECTIONS)),
    };
    let served = axum::serve(bounded, router)
        .with_graceful_shutdown(async move {
            // An error is a sender that is gone, which is a stop as well.
            let _ = closing.wait_for(|closing| *closing).await;
        })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "no longer serving");
    }
}

async fn status(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    Json(shared.status())
}

async fn scrape(State(shared): State<Arc<Shared>>) -> Response {
    match metrics::encode(&shared.status()) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("could not write the metrics: {error}\n"),
        )
            .into_response(),
    }
}

/// A listener whose connections are few and end.
struct Bounded<L> {
    listener: L,
    slots: Arc<Semaphore>,
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = Limited<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed; without a slot the connection would only be unbounded.
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok();
        let (io, address) = self.listener.accept().await;
        (
            Limited {
                io,
                deadline: Box::pin(sleep(LIFETIME)),
                _slot: slot,
            },
            address,
        )
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that ends at its deadline.
struct Limited<I> {
    io: I,
    deadline: Pin<Box<Sleep>>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl<I> Limited<I> {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Limited<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Limited<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
