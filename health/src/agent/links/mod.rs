//! What the kernel says of interfaces, as it says it: a carrier that comes or goes between two looks is told at once, counted
//! as the kernel counts it, and has a look come early.

mod book;
mod interface;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep_until};

use super::shared::Shared;
use super::uevent::Notice;
pub(super) use book::{Book, Owner};
pub(super) use socket::{Heard, Links};

/// Listens until it is dropped, and tells which components it is about.
pub(super) async fn listen(mut links: Links, shared: Arc<Shared>, notices: Sender<Notice>) {
    let mut due = None;
    loop {
        let wait = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let heard = tokio::select! {
            heard = links.next() => heard,
            () = wait => Heard::Links(Vec::new()),
        };
        let notice = match &heard {
            Heard::Lost => Some(Notice::Overrun),
            Heard::Links(_) => None,
        };
        let (concerned, wait) = shared.hear(heard);
        due = wait.map(|wait: Duration| Instant::now() + wait);
        let concerned = concerned.into_iter().map(|bdf| Notice::Of(vec![bdf]));
        for notice in notice.into_iter().chain(concerned) {
            // When so many wait already the next round comes early anyway, and looks at all that is counted soon.
            let _ = notices.try_send(notice);
        }
    }
}
