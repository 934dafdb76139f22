//! HTTP: `GET /v1/status`, `/v1/events` and `/metrics` for everybody, `POST /v1/orders` for those who may.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::{IncomingStream, Listener};
use axum::{Extension, Json, Router};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Sleep, sleep};

use super::{events, metrics};
use crate::agent::Shared;
use crate::operator::{Author, Order};

/// Connections at a time on one listener; more wait to be accepted.
const CONNECTIONS: usize = 64;
/// Longest order, in bytes: a reason of 500 characters and names.
const ORDER: usize = 8 << 10;
/// How long a connection may last, whatever its client does or does not. A scraper that keeps its
/// connection for longer opens another.
const LIFETIME: Duration = Duration::from_secs(10);

/// Answers until `closing` is true.
pub(crate) async fn serve<L: Peered>(
    listener: L,
    shared: Arc<Shared>,
    mut closing: watch::Receiver<bool>,
) where
    L::Addr: std::fmt::Debug,
{
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/events", get(events::events))
        .route("/metrics", get(scrape))
        .route("/v1/orders", post(order))
        .layer(DefaultBodyLimit::max(ORDER))
        .layer(Extension(closing.clone()))
        .with_state(shared);
    let bounded = Bounded {
        listener,
        slots: Arc::new(Semaphore::new(CONNECTIONS)),
    };
    let service = router.into_make_service_with_connect_info::<Peer>();
    let served = axum::serve(bounded, service)
        .with_graceful_shutdown(async move {
            // An error is a sender that is gone, which is a stop as well.
            let _ = closing.wait_for(|closing| *closing).await;
        })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "no longer serving");
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// The user, by `SO_PEERCRED`; nobody knows over TCP.
    uid: Option<u32>,
}

/// A listener that may know who connects.
pub(crate) trait Peered: Listener {
    fn peer(io: &Self::Io) -> Peer;
}

impl Peered for tokio::net::UnixListener {
    fn peer(io: &Self::Io) -> Peer {
        Peer {
            uid: io.peer_cred().ok().map(|credentials| credentials.uid()),
        }
    }
}

impl Peered for tokio::net::TcpListener {
    fn peer(_: &Self::Io) -> Peer {
        Peer { uid: None }
    }
}

impl<L: Peered> Connected<IncomingStream<'_, Bounded<L>>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded<L>>) -> Self {
        *stream.remote_addr()
    }
}

/// The agent's own words on what it does not do.
pub(super) fn refused(status: StatusCode, error: String) -> Response {
    (status, Json(serde_json::json!({ "error": error }))).into_response()
}

/// Does what is asked, if the peer may ask for it.
async fn order(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Bytes,
) -> Response {
    let own = nix::unistd::geteuid().as_raw();
    let uid = match peer.uid {
        Some(uid) if uid == 0 || uid == own => uid,
        Some(uid) => {
            let error =
                format!("orders are for root and the agent's user (uid {own}); you are uid {uid}");
            return refused(StatusCode::FORBIDDEN, error);
        }
        None => {
            let error =
                "orders are taken on the agent's Unix socket only, where it can see who asks";
            return refused(StatusCode::FORBIDDEN, error.to_owned());
        }
    };
    let order = match serde_json::from_slice::<Order>(&body) {
        Ok(order) => order,
        Err(error) => {
            return refused(
                StatusCode::BAD_REQUEST,
                format!("this is no order: {error}"),
            );
        }
    };
    let author = Author {
        uid,
        name: user_name(uid),
    };
    match shared.order(&author, order) {
        Ok(done) => Json(done).into_response(),
        Err(error) => refused(StatusCode::CONFLICT, error.to_string()),
    }
}

/// The name of a local user. A directory service may take its time, and the agent waits for nobody.
fn user_name(uid: u32) -> Option<String> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

async fn status(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    Json(shared.status())
}

async fn scrape(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT);
    let format = metrics::Format::accepted(accept.and_then(|accept| accept.to_str().ok()));
    let text = metrics::encode(&shared.status(), format);
    ([(header::CONTENT_TYPE, format.content_type())], text).into_response()
}

/// A listener whose connections are few and end.
struct Bounded<L> {
    listener: L,
    slots: Arc<Semaphore>,
}

impl<L: Peered> Listener for Bounded<L> {
    type Io = Limited<L::Io>;
    type Addr = Peer;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed; without a slot the connection would only be unbounded.
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok();
        let (io, _) = self.listener.accept().await;
        let peer = L::peer(&io);
        (
            Limited {
                io,
                deadline: Box::pin(sleep(LIFETIME)),
                _slot: slot,
            },
            peer,
        )
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        // Asked for by nobody who serves.
        Ok(Peer { uid: None })
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
