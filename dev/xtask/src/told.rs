//! What the test runner said that is worth reading once more at the end: how many tests passed, and
//! why the others failed.

/// Of what a test that failed has said, so many lines are shown once more.
const LINES_OF_A_FAILURE: usize = 40;

/// A longer line, in characters, is cut.
const LINE_LENGTH: usize = 400;

/// All failures together show no more lines than this.
const LINES_OF_ALL: usize = 600;

/// Gathers such lines while the tests run.
#[derive(Debug, Default)]
pub(crate) struct Told {
    results: Vec<String>,
    failures: Vec<String>,
    /// How many lines of the present failure may still come.
    left: usize,
}

impl Told {
    pub(crate) fn hear(&mut self, line: &str) {
        if line.starts_with("test result:") {
            self.left = 0;
            // Most binaries have no tests at all.
            if !line.contains(" 0 passed; 0 failed;") {
                self.results.push(line.to_owned());
            }
        } else if line.starts_with("---- ") && line.ends_with(" ----") {
            self.left = LINES_OF_A_FAILURE;
        } else if line == "failures:" {
            self.left = 0;
        }
        if self.left > 0 && self.failures.len() < LINES_OF_ALL {
            self.left -= 1;
            self.failures.push(line.chars().take(LINE_LENGTH).collect());
        }
    }

    /// The lines, the most important ones last.
    pub(crate) fn closing_lines(&self) -> impl Iterator<Item = String> {
        let lines = self.failures.iter().chain(&self.results);
        let lines: Vec<String> = lines.map(|line| format!("  {line}")).collect();
        lines.into_iter().chain([format!("  {}", self.total())])
    }

    /// Adds up `test result: ok. 12 passed; 0 failed; 1 ignored; ...` lines.
    fn total(&self) -> String {
        let sum = |what: &str| -> u64 {
            let parts = self.results.iter().flat_map(|line| line.split([';', '.']));
            parts
                .filter_map(|part| part.trim().strip_suffix(what)?.trim().parse::<u64>().ok())
                .sum()
        };
        let (passed, failed, ignored) = (sum("passed"), sum("failed"), sum("ignored"));
        format!("all together: {passed} passed; {failed} failed; {ignored} ignored")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let mut told = Told::default();
        text.lines().for_each(|line| told.hear(line));
        told.closing_lines().map(|line| line.trim_start().to_owned()).collect()
    }

    #[test]
    fn results_are_added_up() {
        let lines = told(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished\n\
             test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished\n\
             test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(lines.len(), 3, "a binary without tests is left out: {lines:?}");
        assert_eq!(lines[2], "all together: 15 passed; 2 failed; 1 ignored");
    }

    #[test]
    fn why_a_test_failed_is_told_again_within_bounds() {
        let head =
            "test a ... FAILED\n\nfailures:\n\n---- a stdout ----\nthread 'a' panicked at x.rs:1\n";
        let noise = "noise\n".repeat(10_000);
        let tail = "\nfailures:\n    a\n\ntest result: FAILED. 3 passed; 1 failed; 0 ignored\n";
        let lines = told(&format!("{head}wanted 1, got 2\n{noise}{tail}"));
        assert_eq!(
            lines[..3],
            ["---- a stdout ----", "thread 'a' panicked at x.rs:1", "wanted 1, got 2"]
        );
        assert_eq!(lines.len(), LINES_OF_A_FAILURE + 2);
        let failure = format!("---- b stdout ----\n{}\n{noise}", "long ".repeat(1000));
        let lines = told(&failure.repeat(50));
        assert_eq!(lines.len(), LINES_OF_ALL + 1);
        assert_eq!(lines[1].len(), LINE_LENGTH);
    }
}
