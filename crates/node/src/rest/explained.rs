//! The answer to GET on `/explain`, put together of what several nodes know.

use protocol::explanation::{Finding, WaitsFor, explanation};
use protocol::node_group::LINK as NODE_GROUP;
use protocol::{GroupId, Response};

/// How many findings one answer has. The first ones are named, the others counted.
const FINDINGS_MAX: usize = 100;

/// How many findings about instances are among them.
const OF_INSTANCES_MAX: usize = 50;

/// What keeps the cluster from serving, as far as this node knows.
pub(crate) struct OfCluster {
    pub(crate) findings: Vec<Finding>,
    /// About the instances that this node owns, or that nobody else is asked about.
    pub(crate) of_instances: Vec<Finding>,
    /// The instances whose owners are asked.
    pub(crate) ask: Vec<GroupId>,
}

impl OfCluster {
    /// With what the owners of instances have said; some may not have answered.
    pub(crate) fn answer(self, told: &[Response], node_id: &str) -> Response {
        let Self { mut findings, mut of_instances, ask } = self;
        let silent = ask.len().saturating_sub(told.len());
        if silent > 0 {
            let text = format!(
                "the owners of {silent} instances gave no answer: amrita explain NAME tells of one"
            );
            findings.push(Finding::passing(WaitsFor::Owner, text));
        }
        for answer in told {
            let told = answer.to_json();
            let told = told["findings"].as_array().into_iter().flatten();
            of_instances.extend(told.filter_map(Finding::from_json));
        }
        let mut stuck = of_instances.into_iter().filter(|finding| finding.remedy.is_some());
        findings.extend(stuck.by_ref().take(OF_INSTANCES_MAX));
        if stuck.next().is_some() {
            let text = "there are more instances that wait: amrita explain NAME tells of one";
            findings.push(Finding::passing(WaitsFor::Person, text));
        }
        answer(NODE_GROUP, findings, node_id)
    }
}

/// First what is stuck.
pub(crate) fn answer(link: &str, mut findings: Vec<Finding>, node_id: &str) -> Response {
    findings.sort_by_key(|finding| finding.remedy.is_none());
    if findings.len() > FINDINGS_MAX {
        let more = findings.len() - FINDINGS_MAX;
        findings.truncate(FINDINGS_MAX - 1);
        findings.push(Finding::passing(WaitsFor::Person, format!("and {} more", more + 1)));
    }
    Response::json(200, &explanation(link, node_id, &findings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_owners_say_of_their_instances_is_told_and_who_is_silent_is_counted() {
        let stuck = |text: &str| Finding::stuck(WaitsFor::Program, text, "start it");
        let passing = Finding::passing(WaitsFor::Turn, "soon");
        let of_owner = explanation("/core/immortals/a", "n2", &[stuck("from afar"), passing]);
        let known = || OfCluster {
            findings: Vec::new(),
            of_instances: vec![stuck("from here")],
            ask: vec![GroupId(1 << 20), GroupId((1 << 20) + 1)],
        };
        let told = [Response::json(200, &of_owner)];
        let answer = known().answer(&told, "n1").to_json();
        let texts: Vec<&str> = answer["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["text"].as_str().unwrap())
            .collect();
        assert_eq!(texts[..2], ["from here", "from afar"]);
        assert!(texts.len() == 3 && texts[2].contains("owners of 1 instances"), "{texts:?}");
        let many = explanation("/x", "n2", &vec![stuck("one of many"); OF_INSTANCES_MAX]);
        let told = [Response::json(200, &many), Response::json(200, &of_owner)];
        let answer = known().answer(&told, "n1").to_json();
        let findings = answer["findings"].as_array().unwrap();
        assert_eq!(findings.len(), OF_INSTANCES_MAX + 1, "{answer}");
        assert!(findings.last().unwrap()["text"].as_str().unwrap().contains("more instances"));
    }
}
