//! A page of `/metrics`, read: counters and histograms, and what has come in between two pages.

use std::collections::BTreeMap;

/// The lines of a page: a name with its labels, and the value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counts(BTreeMap<String, f64>);

impl Counts {
    /// What is not understood is left out.
    pub(crate) fn read(page: &str) -> Self {
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        let values = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(values.collect())
    }

    /// 0 for a name that is not there.
    pub(crate) fn value(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// What was counted since then. A node that was started anew counts from nought: nothing is
    /// known about the time between.
    pub(crate) fn since(&self, before: &Self) -> Option<Self> {
        let is_counter = |name: &str| {
            ["_total", "_count", "_bucket"].iter().any(|end| plain(name).ends_with(end))
        };
        let counters = self.0.iter().filter(|(name, _)| is_counter(name));
        let grown: BTreeMap<String, f64> =
            counters.map(|(name, value)| (name.clone(), value - before.value(name))).collect();
        grown.values().all(|value| *value >= 0.0).then_some(Self(grown))
    }

    /// All lines of that name that have this among their labels.
    pub(crate) fn sum(&self, name: &str, label: &str) -> f64 {
        let lines = self.0.iter().filter(|(line, _)| plain(line) == name && line.contains(label));
        // Nothing adds up to -0, which would be shown.
        lines.map(|(_, value)| value).sum::<f64>() + 0.0
    }

    /// Of a histogram, in its unit: how much this part of what was measured took at most, as well
    /// as the buckets tell. None when nothing was measured. Within a bucket it is divided evenly,
    /// and what is over the last bound counts as that bound.
    pub(crate) fn quantile(&self, name: &str, part: f64) -> Option<f64> {
        let begin = format!("{name}_bucket{{le=\"");
        let bound = |line: &str| line.strip_prefix(&begin)?.strip_suffix("\"}")?.parse().ok();
        let bounds = self.0.iter().filter_map(|(line, count)| Some((bound(line)?, *count)));
        let mut buckets: Vec<(f64, f64)> = bounds.collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        let all = buckets.last()?.1;
        if all <= 0.0 {
            return None;
        }
        let (mut low, mut below) = (0.0, 0.0);
        for (bound, count) in buckets {
            if count >= all * part {
                if bound.is_infinite() {
                    return Some(low);
                }
                return Some(low + (bound - low) * (all * part - below) / (count - below));
            }
            (low, below) = (bound, count);
        }
        None
    }
}

/// The name without the labels.
fn plain(line: &str) -> &str {
    line.split('{').next().unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP a_seconds x\n# TYPE a_seconds histogram\n\
        a_seconds_bucket{le=\"0.001\"} 10\na_seconds_bucket{le=\"0.01\"} 90\n\
        a_seconds_bucket{le=\"+Inf\"} 100\na_seconds_sum 1.5\na_seconds_count 100\n\
        b_total{status=\"200\"} 7\nb_total{status=\"503\"} 2\nc 4\n";

    #[test]
    fn sums_and_parts_are_those_of_the_page() {
        let counts = Counts::read(PAGE);
        assert!((counts.value("c") - 4.0).abs() < 1e-9);
        assert!((counts.sum("b_total", "") - 9.0).abs() < 1e-9);
        assert!((counts.sum("b_total", "status=\"5") - 2.0).abs() < 1e-9);
        assert!(counts.sum("nothing", "").is_sign_positive());
        let near = |part, expected: f64| {
            let found = counts.quantile("a_seconds", part).expect("something was measured");
            assert!((found - expected).abs() < 1e-6, "{part}: {found}");
        };
        near(0.05, 0.0005);
        near(0.5, 0.0055);
        near(0.99, 0.01);
        assert_eq!(counts.quantile("nothing", 0.5), None);
    }

    #[test]
    fn between_two_pages_only_what_is_counted_counts() {
        let (before, now) = (Counts::read(PAGE), Counts::read(&PAGE.replace("} 7", "} 9")));
        let since = now.since(&before).expect("it has only grown");
        assert!((since.sum("b_total", "") - 2.0).abs() < 1e-9);
        assert_eq!(since.quantile("a_seconds", 0.5), None, "nothing was measured in between");
        assert!(since.value("c").abs() < 1e-9, "a gauge is no count");
        assert_eq!(before.since(&now), None, "a counter went back: the node is another one");
    }
}
