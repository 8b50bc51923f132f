//! `/core/node-selectors/default/forwarding`: a request that asks to be passed on. Every node
//! passes a request on to the owner of its document anyway, so only what a node says about itself
//! makes a difference.

use protocol::node_group::{FORWARDING_LINK, LINK, MANAGEMENT_LINK};
use protocol::{Problem, Request, links};

use crate::view::View;

/// The request that is to be passed on.
///
/// # Errors
/// When the target is missing, or when the request asks for the own state of another node.
pub(super) fn unwrap(request: Request, view: &View<'_>) -> Result<Request, Problem> {
    let asked = |name: &str| request.parameter(name);
    let needed = |name: &str| {
        let wrong =
            || Problem::bad_request(format!("{FORWARDING_LINK} needs the parameter '{name}'"));
        asked(name).filter(|value| !value.is_empty()).ok_or_else(wrong)
    };
    let path = needed("path")?;
    links::check(&path)?;
    if path == FORWARDING_LINK {
        return Err(Problem::bad_request("'path' cannot be the forwarding itself"));
    }
    match needed("target")?.as_str() {
        "KEY_HASH" => {
            needed("key")?;
        }
        "PEER_ID" => check_peer(&needed("peer")?, &path, view)?,
        "ALL" => {
            return Err(Problem::bad_request(
                "target=ALL is not served: any node answers for every document, and each node's \
                 /core/management is at the address that /core/node-groups/default gives",
            ));
        }
        other => {
            let text = format!("'target' is KEY_HASH or PEER_ID, not '{other}'");
            return Err(Problem::bad_request(text));
        }
    }
    let query = asked("query").unwrap_or_default();
    Ok(Request { path, query, ..request })
}

fn check_peer(peer: &str, path: &str, view: &View<'_>) -> Result<(), Problem> {
    let mut members = view.topology().members().values();
    let Some(member) = members.find(|member| member.node_id == peer) else {
        let known = view.topology().members().values().map(|member| member.node_id.as_str());
        let known = known.collect::<Vec<_>>().join(", ");
        return Err(Problem::bad_request(format!("there is no node '{peer}'; there are {known}")));
    };
    if member.node_id != view.config.node_id && (path == MANAGEMENT_LINK || path == LINK) {
        let text = format!("{path} of node '{peer}' is to be asked at {}", member.uri);
        return Err(Problem::bad_request(text));
    }
    Ok(())
}
