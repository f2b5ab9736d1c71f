//! RFC 3339 without a date library: written in UTC with milliseconds, one fixed format needs one formula; read with
//! any offset.

/// Appends such as `2026-11-23T16:30:00.123Z`.
pub(super) fn write(out: &mut Vec<u8>, unix_millis: u64) {
    let (seconds, millis) = (unix_millis / 1000, unix_millis % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    digits(out, year, 4);
    out.push(b'-');
    digits(out, month, 2);
    out.push(b'-');
    digits(out, day, 2);
    out.push(b'T');
    digits(out, second / 3600, 2);
    out.push(b':');
    digits(out, second / 60 % 60, 2);
    out.push(b':');
    digits(out, second % 60, 2);
    out.push(b'.');
    digits(out, millis, 3);
    out.push(b'Z');
}

/// Year, month and day of a day counted from 1970-01-01 (H. Hinnant, "chrono-compatible low-level date algorithms").
/// Years begin in March there, so that the leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// Seconds since 1970 of a time such as `2026-11-23T16:30:00Z` or `2026-11-23T17:30:00.5+01:00`; a fraction is
/// dropped.
pub(super) fn read(text: &str) -> Option<u64> {
    let (local, zone) = text.split_at_checked("2026-11-23T16:30:00".len())?;
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = local.get(from..to)?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| plain)
    };
    let signs = [4, 7, 10, 13, 16].map(|at| local.as_bytes()[at]);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let plausible = year >= 1970 && hour <= 23 && minute <= 59 && second <= 59;
    if !matches!(&signs, b"--T::" | b"--t::") || !plausible {
        return None;
    }
    let days = days(year, month, day).filter(|days| civil(*days) == (year, month, day))?;
    let local = days * 86_400 + hour * 3600 + minute * 60 + second;
    let (behind, ahead) = offset(without_fraction(zone)?)?;
    (local + behind).checked_sub(ahead)
}

fn without_fraction(zone: &str) -> Option<&str> {
    let Some(fraction) = zone.strip_prefix('.') else {
        return Some(zone);
    };
    let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
    (zone.len() < fraction.len()).then_some(zone)
}

/// Seconds that a zone is behind UTC, and that it is ahead; one of them is 0.
fn offset(zone: &str) -> Option<(u64, u64)> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    match *zone.as_bytes() {
        [b'Z' | b'z'] => Some((0, 0)),
        [sign, h1, h2, b':', m1, m2] => {
            let hours = digit(h1)? * 10 + digit(h2)?;
            let minutes = digit(m1)? * 10 + digit(m2)?;
            let seconds = hours * 3600 + minutes * 60;
            match sign {
                _ if hours > 23 || minutes > 59 => None,
                b'+' => Some((0, seconds)),
                b'-' => Some((seconds, 0)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The reverse of [`civil`], for a month and a day that may not be there.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let march_month = match month {
        3..=12 => month - 3,
        1 | 2 => month + 9,
        _ => return None,
    };
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * march_month + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

fn digits(out: &mut Vec<u8>, value: u64, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + (value / 10u64.pow(place) % 10) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(unix_millis: u64) -> String {
        let mut out = Vec::new();
        write(&mut out, unix_millis);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_moments() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800_001, "2024-02-29T00:00:00.001Z"),
            (1_795_451_384_042, "2026-11-23T16:29:44.042Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_000, "9999-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(text(millis), expected);
        }
    }

    #[test]
    fn times_are_read_and_nothing_else() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-23T16:29:44Z", 1_795_451_384),
            ("2026-11-23t16:29:44.999999z", 1_795_451_384),
            ("2026-11-23T17:29:44+01:00", 1_795_451_384),
            ("2026-11-23T11:59:44.0-04:30", 1_795_451_384),
            ("2024-02-29T00:00:00Z", 1_709_164_800),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(read(text), Some(seconds), "{text}");
        }
        for wrong in [
            "",
            "2026-11-23",
            "2026-11-23T16:29:44",
            "2026-11-23 16:29:44Z",
            "2026-11-23T16:29Z",
            "2026-11-23T16:29:44.Z",
            "2026-11-23T16:29:44z ",
            "2026-11-23T16:29:44+0100",
            "2026-11-23T16:29:44+1:00",
            "2026-11-23T16:29:44+24:00",
            "2026-11-23T16:29:44+01:60",
            "2026-11-23T16:29:44*01:00",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-04-00T00:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T16:60:00Z",
            "2026-11-23T16:29:60Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "+026-11-23T16:29:44Z",
            "2026-11-2äT16:29:44Z",
            "1795451384",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let leap = |year| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..400 * 366 {
            assert_eq!(civil(days), (year, month, day), "day {days}");
            assert_eq!(super::days(year, month, day), Some(days));
            let length = match month {
                2 if leap(year) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}
