//! Documents with an end: there before it, and not there after it. Who says what time it is does
//! not matter here: while a majority of the clocks is right, the cluster's time is about right.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Broken;
use crate::agenda::{MILLISECOND, SECOND, Time};
use crate::machine::WALL_AT_START;

/// A document may go so much before its end, as clocks drift a little between two words of each
/// other.
const EARLY_MAX: Time = 300 * MILLISECOND;

/// And be there so much after it: signs of life may take long, and with them the word of a majority
/// about the time.
const LATE_MAX: Time = 1_500 * MILLISECOND;

/// When documents end that were surely made, in the time of the run.
#[derive(Debug, Default)]
pub struct Mortals(BTreeMap<String, Time>);

impl Mortals {
    /// A document was made, perhaps one with an end.
    pub fn made(&mut self, link: &str, body: &Value) {
        if let Some(expires) = body["documentExpirationTimeMicros"].as_u64() {
            self.0.insert(link.to_owned(), expires.saturating_sub(WALL_AT_START));
        }
    }

    /// It ends within the next second.
    pub fn is_about_to_end(&self, link: &str, now: Time) -> bool {
        self.0.get(link).is_some_and(|ends| (*ends - SECOND.min(*ends)..=*ends).contains(&now))
    }

    pub fn has_ended(&self, link: &str, now: Time) -> bool {
        self.0.get(link).is_some_and(|ends| *ends <= now)
    }

    /// Somebody who asked at that time was shown it.
    ///
    /// # Errors
    /// When it should have gone before.
    pub fn is_there(&self, link: &str, asked: Time) -> Result<(), Broken> {
        match self.0.get(link) {
            Some(ends) if asked > ends + LATE_MAX => {
                let what = format!("{link} was to end at {ends}, and was there at {asked}");
                Err(Broken::new("what has expired is gone", what))
            }
            _ => Ok(()),
        }
    }

    /// Somebody was told at that time that it is not there.
    ///
    /// # Errors
    /// When it should still be.
    pub fn is_gone(&self, link: &str, told: Time) -> Result<(), Broken> {
        match self.0.get(link) {
            Some(ends) if told + EARLY_MAX < *ends => {
                let what = format!("{link} was to end at {ends}, and was gone at {told}");
                Err(Broken::new("what has not expired is there", what))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_goes_too_early_or_stays_too_long_is_found() {
        let mut mortals = Mortals::default();
        let ends = 10_000 * MILLISECOND;
        mortals.made("a", &json!({ "documentExpirationTimeMicros": WALL_AT_START + ends }));
        mortals.made("b", &json!({}));
        assert!(mortals.is_gone("a", ends - EARLY_MAX).is_ok());
        assert!(mortals.is_gone("a", ends - EARLY_MAX - 1).is_err());
        assert!(mortals.is_there("a", ends + LATE_MAX).is_ok());
        assert!(mortals.is_there("a", ends + LATE_MAX + 1).is_err());
        assert!(mortals.is_gone("b", 0).is_ok(), "it has no end");
    }
}
