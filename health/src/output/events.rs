//! `GET /v1/events`: what is stored, and what comes, for those who wait for it.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query as InUrl, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::http::refused;
use crate::agent::Shared;
use crate::probe::discover::is_bdf;
use crate::store::{Page, Query, Store, StoreError};

/// Longest wait for something new, in seconds: a connection lasts not much longer.
pub(crate) const MOST_WAIT: u64 = 8;

/// What may be asked for, in the URL.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Asked {
    after: u64,
    since: Option<u64>,
    component: Option<String>,
    limit: Option<usize>,
    newest: bool,
    news: bool,
    /// How long to wait for an event when there is none, in seconds.
    wait: u64,
}

impl Asked {
    pub(crate) fn new(query: &Query, wait: Duration) -> Self {
        let query = query.clone();
        Self {
            after: query.after,
            since: query.since,
            component: query.component,
            limit: query.limit,
            newest: query.newest,
            news: query.news,
            wait: wait.as_secs().min(MOST_WAIT),
        }
    }
}

impl From<Asked> for Query {
    fn from(asked: Asked) -> Self {
        Self {
            after: asked.after,
            since: asked.since,
            component: asked.component,
            limit: asked.limit,
            newest: asked.newest,
            news: asked.news,
        }
    }
}

/// Answers with a page; when it would be empty, after a wait.
pub(super) async fn events(
    State(shared): State<Arc<Shared>>,
    Extension(mut closing): Extension<watch::Receiver<bool>>,
    asked: Result<InUrl<Asked>, QueryRejection>,
) -> Response {
    let mut asked = match asked {
        Ok(InUrl(asked)) => asked,
        Err(wrong) => return refused(StatusCode::BAD_REQUEST, wrong.body_text()),
    };
    if let Some(name) = &mut asked.component {
        match shared.address(name) {
            Ok(address) => *name = address,
            // What was taken out has a history.
            Err(_) if is_bdf(name) => {}
            Err(error) => return refused(StatusCode::NOT_FOUND, error),
        }
    }
    let until = Instant::now() + Duration::from_secs(asked.wait.min(MOST_WAIT));
    let query = Query::from(asked);
    let (store, mut told) = shared.events();
    loop {
        // What is told from here on ends the wait.
        told.mark_unchanged();
        let page = match read(&store, &query).await {
            Ok(page) => page,
            Err(error) => {
                return refused(StatusCode::SERVICE_UNAVAILABLE, error.to_string());
            }
        };
        if !page.events.is_empty() || Instant::now() >= until || *closing.borrow() {
            return Json(page).into_response();
        }
        // What ends the wait does not matter: the next look is the last, unless something was told.
        let _ = timeout_at(until, async {
            tokio::select! {
                _ = told.changed() => {}
                _ = closing.changed() => {}
            }
        })
        .await;
    }
}

/// Reads in a thread that may wait for the disk, as the loop must not.
async fn read(store: &Store, query: &Query) -> Result<Page, StoreError> {
    let (ours, query) = (store.clone(), query.clone());
    let read = spawn_blocking(move || ours.events(&query)).await;
    read.unwrap_or_else(|_| {
        Err(StoreError::Died {
            path: store.status().file.into(),
        })
    })
}
