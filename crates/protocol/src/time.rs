//! Times as people and programs write them: RFC 3339, and microseconds since 1970.

use crate::Moment;

const SECOND_MICROS: i64 = 1_000_000;
const DAY_SECONDS: i64 = 86_400;

/// Digits of a second behind the point that a time of ours has.
const FRACTION_DIGITS: usize = 6;

/// Years of 400 have the same calendar again and again.
const ERA_DAYS: i64 = 146_097;

/// From the first of March of the year 0 to the first of January 1970.
const DAYS_TO_1970: i64 = 719_468;

/// The moment that a text stands for: microseconds since 1970, or a time of RFC 3339, such as
/// `2026-11-30T12:00:00.5+01:00`. What is finer than a microsecond is cut off. `None` for anything
/// else, and for times before 1970.
pub fn moment_of(text: &str) -> Option<Moment> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(Moment);
    }
    let (date, time) = text.split_once(['T', 't'])?;
    let days = days_of(date)?;
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone_at);
    let (whole, fraction) = match clock.split_once('.') {
        Some((whole, fraction)) => (whole, micros_of(fraction)?),
        None => (clock, 0),
    };
    let mut parts = whole.split(':');
    let hour = number(parts.next()?, 2, 23)?;
    let minute = number(parts.next()?, 2, 59)?;
    let second = number(parts.next()?, 2, 59)?;
    if parts.next().is_some() {
        return None;
    }
    let seconds =
        days * DAY_SECONDS + hour * 3_600 + minute * 60 + second - offset_seconds_of(zone)?;
    let micros = seconds.checked_mul(SECOND_MICROS)?.checked_add(fraction)?;
    u64::try_from(micros).ok().map(Moment)
}

/// The moment as RFC 3339 writes it, in UTC, to the microsecond.
pub fn shown(moment: Moment) -> String {
    let micros = i64::try_from(moment.0).unwrap_or(i64::MAX);
    let (seconds, fraction) = (micros / SECOND_MICROS, micros % SECOND_MICROS);
    let (days, second) = (seconds / DAY_SECONDS, seconds % DAY_SECONDS);
    let (year, month, day) = date_of(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z")
}

/// A number of that many digits, up to a greatest value.
fn number(text: &str, digits: usize, most: i64) -> Option<i64> {
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    let number: i64 = is_number.then(|| text.parse().ok())??;
    (number <= most).then_some(number)
}

fn micros_of(fraction: &str) -> Option<i64> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.chars().chain(std::iter::repeat('0')).take(FRACTION_DIGITS);
    digits.collect::<String>().parse().ok()
}

fn offset_seconds_of(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    Some(sign * (number(hours, 2, 23)? * 3_600 + number(minutes, 2, 59)? * 60))
}

/// Days since 1970 of `YEAR-MONTH-DAY`.
fn days_of(date: &str) -> Option<i64> {
    let mut parts = date.split('-');
    let year = number(parts.next()?, 4, 9_999)?;
    let month = number(parts.next()?, 2, 12)?;
    let day = number(parts.next()?, 2, 31)?;
    if parts.next().is_some() || month == 0 || day == 0 {
        return None;
    }
    // A year that begins in March has its leap day at its end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * ERA_DAYS + of_era * 365 + of_era / 4 - of_era / 100 + of_year - DAYS_TO_1970;
    // The thirty-first of a month of thirty days would be the first of the next.
    let (_, same_month, same_day) = date_of(days);
    let is_there = same_day == day && same_month == (month + 2) % 12 + 1;
    is_there.then_some(days)
}

/// Year, month and day, that many days after 1970 began.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_1970;
    let (era, of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (era * 400 + year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_any_zone() {
        let at = |text: &str| moment_of(text).map(|moment| moment.0);
        assert_eq!(at("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(at("2026-12-01T01:25:20Z"), Some(1_796_088_320_000_000));
        assert_eq!(at("2026-12-01T02:25:20.25+01:00"), Some(1_796_088_320_250_000));
        assert_eq!(at("2026-11-30t19:55:20.1234567-05:30"), Some(1_796_088_320_123_456));
        assert_eq!(at("2000-02-29T12:00:00z"), Some(951_825_600_000_000));
        assert_eq!(at("1796088320250000"), Some(1_796_088_320_250_000));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "-1",
            "1.5",
            "yesterday",
            "2026-12-01",
            "2026-12-01T01:25:20",
            "2026-12-01 01:25:20Z",
            "2026-13-01T01:25:20Z",
            "2026-00-01T01:25:20Z",
            "2026-11-31T01:25:20Z",
            "2026-02-29T01:25:20Z",
            "2026-12-01T24:00:00Z",
            "2026-12-01T01:25:60Z",
            "2026-12-01T01:25:20.Z",
            "2026-12-01T01:25:20+1:00",
            "2026-12-01T01:25Z",
            "1969-12-31T23:59:59Z",
            "99999999999999999999",
        ] {
            assert_eq!(moment_of(text), None, "{text}");
        }
    }

    #[test]
    fn a_moment_comes_back_from_its_text() {
        for days in (0..200_000).step_by(37) {
            let moment = Moment(days * 86_400_000_000 + days * 12_345 % 86_400_000_000);
            assert_eq!(moment_of(&shown(moment)), Some(moment), "{}", shown(moment));
        }
        assert_eq!(shown(Moment(1_796_088_320_250_000)), "2026-12-01T01:25:20.250000Z");
    }
}
