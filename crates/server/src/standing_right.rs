//! The right to a connection that lasts: it is looked at again as long as the connection is there,
//! as a token may be revoked, a role taken away or an instance given to others.

use std::sync::Arc;
use std::time::Duration;

use protocol::{Method, Principal};
use tokio::sync::watch;

use crate::caller::Caller;
use crate::login::Doorkeeper;

/// How often. Streams of changes ask as often.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// Who may do what, by what was shown when the connection began.
pub(crate) struct StandingRight {
    pub(crate) keeper: Arc<Doorkeeper>,
    pub(crate) principal: Principal,
    pub(crate) verb: Method,
    pub(crate) path: String,
    pub(crate) caller: Caller,
}

impl StandingRight {
    /// Changes when `stop` does, or when the right is gone.
    pub(crate) fn watch(
        self,
        mut stop: watch::Receiver<()>,
        every: Duration,
    ) -> watch::Receiver<()> {
        let (end, ended) = watch::channel(());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = end.closed() => return,
                    _ = stop.changed() => break,
                    () = tokio::time::sleep(every) => {}
                }
                if !self.holds().await {
                    tracing::warn!(
                        target: "amrita",
                        "a program is let go: the right to {} {} is gone",
                        self.verb.name(),
                        self.path
                    );
                    break;
                }
            }
            end.send_replace(());
        });
        ended
    }

    /// A node that cannot tell at this moment takes nothing away.
    async fn holds(&self) -> bool {
        let asked = (self.verb, self.path.as_str());
        match self.keeper.permit(self.principal.clone(), asked, &self.caller).await {
            Ok(()) => true,
            Err(problem) => ![401, 403].contains(&problem.status()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use access::{CAN_I, WHO_AM_I};
    use protocol::Request;
    use serde_json::json;

    use super::*;
    use crate::fake_node::{failed, ok, run, with_node};
    use crate::inbox::Inbox;
    use crate::trail::Trail;

    /// The answers of a node that is asked whether somebody may attach, one after the other; the
    /// last one again and again. Gives how often it was asked when the connection was to end.
    fn asked_until_the_end(answers: &'static [(u16, bool)]) -> usize {
        run(async move {
            let inbox = Arc::new(Inbox::new(Arc::default()));
            let (trail, _writing) = Trail::begin(&inbox, "n1", 1);
            let keeper = Doorkeeper::new(Arc::clone(&inbox), false, None, Some(trail));
            let caller = Caller { address: None, basic: None, foreign: None };
            let right = StandingRight {
                keeper: Arc::new(keeper),
                principal: Principal::User("/core/authz/users/jane".into()),
                verb: Method::Post,
                path: "/core/immortals/a/attach".into(),
                caller,
            };
            let count = AtomicUsize::new(0);
            let node = |request: &Request| match request.path.as_str() {
                CAN_I => {
                    let number = count.fetch_add(1, Ordering::Relaxed);
                    match answers[number.min(answers.len() - 1)] {
                        (200, is_allowed) => ok(&json!({"isAllowed": is_allowed, "as": "jane"})),
                        (status, _) => failed(status, "notApplied"),
                    }
                }
                WHO_AM_I => ok(&json!({"isLoggedIn": false})),
                _ => None,
            };
            let (_stopping, stop) = watch::channel(());
            let mut ended = right.watch(stop, Duration::from_millis(1));
            let (told, _) = with_node(&inbox, node, ended.changed()).await;
            assert!(told.is_ok(), "it is told to end");
            count.load(Ordering::Relaxed)
        })
    }

    #[test]
    fn a_connection_ends_when_its_right_is_gone_and_not_when_that_is_not_known() {
        assert_eq!(asked_until_the_end(&[(200, true), (503, false), (200, true), (200, false)]), 4);
        assert_eq!(asked_until_the_end(&[(200, true), (401, false)]), 2, "the token is revoked");
    }
}
