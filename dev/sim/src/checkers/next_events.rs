//! Every task that has not ended has a next event. One without would stay as it is for ever.

use node::Node;

use super::Broken;

/// Looks at the tasks that a node takes further, and says how many there are.
///
/// # Errors
/// When one of them has no next event, or the store cannot be read.
pub fn look(node: &Node) -> Result<usize, Broken> {
    let rule = "every task that has not ended has a next event";
    let found = node.next_events().map_err(|error| Broken::new(rule, error.to_string()))?;
    match found.without.first() {
        None => Ok(found.tasks),
        Some(first) => Err(Broken::new(rule, first.clone())),
    }
}
