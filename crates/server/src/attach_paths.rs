//! The paths where programs attach.

use protocol::links;

/// The instance that programs attach to at this path: `/core/immortals/NAME/attach`.
pub(crate) fn instance_at(path: &str) -> Option<&str> {
    let name = access::name_in(path, access::INSTANCES)?.strip_suffix("/attach")?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

/// What a program wants to be at this path, for the fuzz targets.
pub(crate) fn attached_at(path: &str) -> Option<&str> {
    instance_at(path).or_else(|| kind_at(path))
}

/// The definition of the kind that programs serve at this path: `/core/factories/KIND` of
/// `/core/factories/KIND/attach`.
pub(crate) fn kind_at(path: &str) -> Option<&str> {
    let definition = path.strip_suffix("/attach")?;
    let name = access::name_in(definition, links::KINDS)?;
    (!name.is_empty() && !name.contains('/')).then_some(definition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_attach_at_the_path_of_an_instance_and_nowhere_else() {
        assert_eq!(instance_at("/core/immortals/counter/attach"), Some("counter"));
        for other in
            ["/core/immortals/attach", "/core/immortals//attach", "/core/immortals/a/b/attach"]
        {
            assert_eq!(instance_at(other), None, "{other}");
        }
        let definition = "/core/factories/app:seats";
        assert_eq!(kind_at(&format!("{definition}/attach")), Some(definition));
        for other in ["/core/factories/attach", "/core/factories//attach", definition] {
            assert_eq!(kind_at(other), None, "{other}");
        }
    }
}
