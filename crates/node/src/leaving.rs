//! A node that leaves its cluster of one to join another one. First it looks whether there is one.

use crate::io::{Level, Output};
use crate::joining::{Found, Joining, check_that_it_may_leave};
use crate::member::Member;
use crate::membership::{Fate, Host, view};
use crate::view::View;
use crate::work::Purpose;

impl Member {
    /// Whether this link is only for a look. Over such a link this node does not say who it is,
    /// since it still belongs to another cluster and would be refused for that.
    pub(crate) fn only_looks(&self, link: u64, host: &Host<'_>) -> bool {
        let Some(joining) = &self.joining else { return false };
        let contact = joining.contact();
        let usual = self.membership.control.usual_addresses(host.profile);
        let dialed = host.links.get(link).and_then(|link| link.dialed.as_deref());
        dialed == Some(contact) && !usual.iter().any(|usual| usual == contact)
    }

    /// A request to join. It is answered when it is known whether there is a cluster to join,
    /// before the node joins it. The quorum in the request is ignored, since the cluster has one.
    pub(crate) fn join(&mut self, purpose: Purpose, contact: String, host: &mut Host<'_>) {
        if let Err(problem) =
            check_that_it_may_leave(&view!(self.membership, host, self.router.len()))
        {
            return host.effects.respond(&purpose, problem);
        }
        match &mut self.joining {
            Some(joining) => {
                if let Err(problem) = joining.add(&contact, purpose.clone()) {
                    host.effects.respond(&purpose, problem);
                }
            }
            None => {
                self.joining = Some(Joining::new(contact, host.now.steady_micros, purpose));
                self.dial_all(host);
            }
        }
    }

    pub(crate) fn look_at_the_other_cluster(&mut self, host: &mut Host<'_>) -> Fate {
        let Some(joining) = &self.joining else { return Fate::GoesOn };
        let found = joining.look(host.links, host.profile, host.now.steady_micros);
        self.found(found, host)
    }

    pub(crate) fn found(&mut self, found: Found, host: &mut Host<'_>) -> Fate {
        let outcome = match found {
            Found::Nothing => return Fate::GoesOn,
            Found::Impossible(why) => Err(Joining::stays(&why)),
            // Something may have been written while this node looked.
            Found::Cluster => {
                check_that_it_may_leave(&view!(self.membership, host, self.router.len()))
            }
        };
        let Some(joining) = self.joining.take() else { return Fate::GoesOn };
        let contact = joining.contact().to_owned();
        joining.answer(&outcome, host.effects);
        match outcome {
            Err(problem) => {
                let text = format!("did not join: {}", problem.message);
                host.effects.note(Level::Warn, text);
                self.dial_all(host);
                Fate::GoesOn
            }
            Ok(()) => {
                let text = format!("leaving the cluster of one to join {contact}");
                host.effects.note(Level::Info, text);
                host.effects.outputs.push(Output::Rejoin { contact });
                Fate::Ended
            }
        }
    }
}
