//! Keeps this node's certificate young, as long as the node lives. Every node has the cluster's
//! authority in its replicas, so it renews its certificate without asking anybody, also after a
//! time in which it was cut off or did not run.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use access::is_renewal_due;

use crate::gate::{authority, publish};
use crate::inbox::Inbox;
use crate::own_tls::{OwnTls, moment};
use crate::tls::Tls;

/// How often it is looked whether something is to be done...
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// ... and how soon something is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Runs as long as the node does.
pub(crate) async fn keep(own: Arc<OwnTls>, tls: Arc<Tls>, inbox: Arc<Inbox>) {
    // Whatever the time of the file says: a copy of a sandbox has other times.
    let mut is_of_this_start = false;
    loop {
        let is_due = !is_of_this_start || is_renewal_due(own.made(), moment(SystemTime::now()));
        let done = is_published(&own, &inbox).await && (!is_due || renew(&own, &tls, &inbox).await);
        is_of_this_start |= done;
        tokio::time::sleep(if done { LOOK_AGAIN } else { TRY_AGAIN }).await;
    }
}

/// The authority that this node has made becomes the cluster's.
async fn is_published(own: &OwnTls, inbox: &Inbox) -> bool {
    match own.unpublished() {
        Ok(None) => true,
        Ok(Some(own_made)) => {
            // The cluster may have another one. This node's replica says so even when no other node
            // takes its certificate, so that nothing can be written.
            let is_there = authority(inbox).await.is_some() || publish(inbox, &own_made).await;
            if is_there {
                own.published();
            }
            is_there
        }
        Err(why) => {
            tracing::error!(target: "amrita", "the authority that this node has made: {why}");
            true
        }
    }
}

async fn renew(own: &OwnTls, tls: &Tls, inbox: &Inbox) -> bool {
    let Some(authority) = authority(inbox).await else { return false };
    match own.renew(&authority, SystemTime::now()).and_then(|()| tls.read_anew()) {
        Ok(()) => {
            own.needs_no_token();
            true
        }
        Err(why) => {
            tracing::error!(target: "amrita", "this node's certificate is not renewed: {why}");
            false
        }
    }
}
