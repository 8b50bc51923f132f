//! Names of fields, and the paths that they stand for.

use protocol::{BUILT_IN_FIELDS, Problem};

use crate::predicate::wrong;

/// The longest path of a field that a query can name, and the longest that is worth indexing.
pub const PATH_BYTES_MAX: usize = 512;

/// How many parts `item` a field's name may have: each doubles the paths it stands for.
const ITEMS_MAX: usize = 3;

/// All the paths that a field's name stands for.
pub(crate) fn paths(name: &str, at: &str) -> Result<Vec<String>, Problem> {
    if name.is_empty() {
        return wrong(at, "is empty; name a field, such as 'name', 'keyValues.k' or 'tags.item'");
    }
    if name.len() > PATH_BYTES_MAX {
        return wrong(at, &format!("is {} bytes long; the limit is {PATH_BYTES_MAX}", name.len()));
    }
    let meant = BUILT_IN_FIELDS.iter().find(|field| field.eq_ignore_ascii_case(name));
    if let Some(field) = meant.filter(|&&field| field != name) {
        return wrong(at, &format!("is '{name}'; it is spelled '{field}'"));
    }
    let mut paths = vec![String::new()];
    let mut items = 0;
    for (number, part) in name.split('.').enumerate() {
        let mut longer = Vec::new();
        if part == "item" && number > 0 {
            items += 1;
            if items > ITEMS_MAX {
                return wrong(at, &format!("has over {ITEMS_MAX} parts 'item'; leave them out"));
            }
            longer.clone_from(&paths);
        }
        for path in &mut paths {
            if number > 0 {
                path.push('.');
            }
            path.push_str(part);
        }
        paths.append(&mut longer);
    }
    Ok(paths)
}

/// A field that the system keeps: it is not in the body.
pub fn is_built_in(path: &str) -> bool {
    BUILT_IN_FIELDS.contains(&path)
}
