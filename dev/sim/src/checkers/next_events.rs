//! Every task that has not ended has a next event. One without would stay as it is for ever.

use node::Node;

use super::Broken;

const RULE: &str = "every task that has not ended has a next event";

/// Looks at the tasks that a node takes further, and says how many there are.
///
/// A store that is damaged says nothing of them: the node finds that by itself.
///
/// # Errors
/// When one of them has no next event, or a store that is well cannot be read.
pub fn look(node: &Node, is_damaged: bool) -> Result<usize, Broken> {
    let found = match node.next_events() {
        Err(_) if is_damaged => return Ok(0),
        found => found.map_err(|error| Broken::new(RULE, error.to_string()))?,
    };
    match found.without.first() {
        None => Ok(found.tasks),
        Some(first) => Err(Broken::new(RULE, first.clone())),
    }
}

/// A node itself has found that this number of tasks has none.
///
/// # Errors
/// Always.
pub fn noticed(count: usize, machine: &str) -> Result<(), Broken> {
    Err(Broken::new(RULE, format!("{count} have none, as the node itself says")).at(machine))
}
