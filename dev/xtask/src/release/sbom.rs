//! The bill of materials, in CycloneDX's JSON: which crates are in the binary, under which licence,
//! with which checksum, and who needs whom. `cargo tree` says what is really linked for a target;
//! `Cargo.lock` has the checksums.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use super::run;

/// A crate, as `cargo tree` shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Component {
    name: String,
    version: String,
    licence: String,
}

/// Each crate in the binary, by how deep it stands below the one that needs it.
pub(super) fn tree(target: &str) -> Result<String, String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["tree", "--locked", "--package", "amrita", "--edges", "normal"]).args([
        "--target",
        target,
        "--prefix",
        "depth",
        "--format",
        "|{p}|{l}|",
    ]);
    String::from_utf8(run(&mut command)?).map_err(|error| format!("cargo tree: {error}"))
}

/// # Errors
/// When a line is not as expected: a bill that leaves something out is worse than none.
pub(super) fn bill(version: &str, tree: &str, lock: &str) -> Result<String, String> {
    let (components, needs) = read(tree)?;
    let sums = checksums(lock);
    let mut shown = Vec::new();
    for one in components.iter().filter(|one| one.name != "amrita") {
        let sum = sums.get(&(one.name.clone(), one.version.clone()));
        shown.push(one.to_json(sum.map(String::as_str)));
    }
    let edges = components.iter().map(|one| {
        let of: Vec<String> =
            needs.get(one).into_iter().flatten().map(|need| quoted(&need.reference())).collect();
        format!("{{\"ref\":{},\"dependsOn\":[{}]}}", quoted(&one.reference()), of.join(","))
    });
    let edges: Vec<String> = edges.collect();
    Ok(format!(
        "{{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.5\",\"version\":1,\n\"metadata\":\
         {{\"component\":{{\"type\":\"application\",\"bom-ref\":\"pkg:cargo/amrita@{version}\",\
         \"name\":\"amrita\",\"version\":\"{version}\",\
         \"licenses\":[{{\"expression\":\"Apache-2.0\"}}]}}}},\n\"components\":[\n{}\n],\n\
         \"dependencies\":[\n{}\n]}}\n",
        shown.join(",\n"),
        edges.join(",\n")
    ))
}

type Needs = BTreeMap<Component, BTreeSet<Component>>;

/// A crate that was shown before is shown again with `(*)` and without what is below it.
fn read(tree: &str) -> Result<(BTreeSet<Component>, Needs), String> {
    let (mut components, mut needs) = (BTreeSet::new(), Needs::new());
    let mut above: Vec<Component> = Vec::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let wrong = || format!("cargo tree has a line that is not understood: {line}");
        let mut parts = line.split('|');
        let mut part = || parts.next().ok_or_else(wrong);
        let depth: usize = part()?.parse().map_err(|_| wrong())?;
        let mut words = part()?.split_whitespace();
        let name = words.next().ok_or_else(wrong)?.to_owned();
        let version = words.next().and_then(|word| word.strip_prefix('v')).ok_or_else(wrong)?;
        // MIT/Apache-2.0 is how licences were joined before SPDX.
        let licence = part()?.replace('/', " OR ");
        let one = Component { name, version: version.to_owned(), licence };
        if depth > above.len() {
            return Err(wrong());
        }
        above.truncate(depth);
        if let Some(parent) = above.last() {
            needs.entry(parent.clone()).or_default().insert(one.clone());
        }
        above.push(one.clone());
        components.insert(one);
    }
    Ok((components, needs))
}

/// By name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut sums = BTreeMap::new();
    for package in lock.split("[[package]]") {
        let value = |key: &str| {
            let begin = format!("{key} = \"");
            let line = package.lines().find_map(|line| line.strip_prefix(&begin))?;
            line.strip_suffix('"').map(str::to_owned)
        };
        if let (Some(name), Some(version), Some(sum)) =
            (value("name"), value("version"), value("checksum"))
        {
            sums.insert((name, version), sum);
        }
    }
    sums
}

impl Component {
    fn reference(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version)
    }

    fn to_json(&self, sum: Option<&str>) -> String {
        let reference = quoted(&self.reference());
        let licences = match self.licence.as_str() {
            "" => String::new(),
            licence => format!(",\"licenses\":[{{\"expression\":{}}}]", quoted(licence)),
        };
        let hashes = sum.map_or_else(String::new, |sum| {
            format!(",\"hashes\":[{{\"alg\":\"SHA-256\",\"content\":{}}}]", quoted(sum))
        });
        format!(
            "{{\"type\":\"library\",\"bom-ref\":{reference},\"purl\":{reference},\"name\":{},\
             \"version\":{}{licences}{hashes}}}",
            quoted(&self.name),
            quoted(&self.version)
        )
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for sign in text.chars() {
        match sign {
            '"' | '\\' => quoted.extend(['\\', sign]),
            sign if sign.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(sign))),
            sign => quoted.push(sign),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "0|amrita v0.1.0 (/x/y)|Apache-2.0|\n1|bytes v1.2.3|MIT/Apache-2.0|\n\
                        1|tokio v1.0.0|MIT|\n2|bytes v1.2.3|MIT/Apache-2.0| (*)\n";

    #[test]
    fn a_bill_has_each_crate_once_with_licence_checksum_and_needs() {
        let lock = "[[package]]\nname = \"bytes\"\nversion = \"1.2.3\"\nchecksum = \"abc\"\n";
        let bill = bill("0.1.0", TREE, lock).unwrap();
        assert_eq!(bill.matches("\"name\":\"bytes\"").count(), 1, "{bill}");
        assert!(bill.contains("\"expression\":\"MIT OR Apache-2.0\""), "{bill}");
        assert!(bill.contains("\"content\":\"abc\""), "{bill}");
        let edge = "{\"ref\":\"pkg:cargo/tokio@1.0.0\",\"dependsOn\":[\"pkg:cargo/bytes@1.2.3\"]}";
        assert!(bill.contains(edge), "{bill}");
        assert!(!bill.contains("/x/y"), "the folder of who built it is nobody's business");
    }

    #[test]
    fn a_line_that_is_not_understood_makes_no_bill() {
        for wrong in ["bytes v1", "0|bytes|MIT|", "x|bytes v1|MIT|", "2|bytes v1.0.0|MIT|"] {
            assert!(bill("0.1.0", wrong, "").is_err(), "{wrong}");
        }
        assert_eq!(quoted("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000a\"");
    }
}
