//! Plain words for what JSON says: states, verdicts, doubts, ages, times. Pure; knows no node and asks for no time.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

/// Makes text harmless on one line of a terminal: line ends become blanks, other control characters a mark.
pub(super) fn one_line(text: &str) -> String {
    let text = text.trim_end();
    let clean = |letter: char| match letter {
        '\n' | '\t' => ' ',
        '\r' => '\0',
        letter if letter.is_control() => '\u{fffd}',
        letter => letter,
    };
    text.chars().map(clean).filter(|letter| *letter != '\0').collect()
}

/// A field as text: strings as they are, nothing for null, anything else in its JSON form.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The same with a dash where there is nothing.
pub(super) fn text_or_dash(value: &Value) -> String {
    let shown = text(value);
    if shown.is_empty() { "–".to_owned() } else { shown }
}

/// `1 receipt`, `3 receipts`.
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A span of seconds in the two units that matter: `45 s`, `12 min`, `3 h 5 min`, `2 days 4 h`.
pub(super) fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let and = |rest: u64, unit: &str| if rest == 0 { String::new() } else { format!(" {rest} {unit}") };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h{}", and(minutes % 60, "min")),
        _ => format!("{}{}", count(days, "day", "days"), and(hours % 24, "h")),
    }
}

/// A time as the clock on the wall here shows it: `2026-11-23 12:05:09`. What is no time stays as it is.
pub(super) fn local_time(value: &Value) -> String {
    time_in(&text(value), TimeZone::system())
}

fn time_in(text: &str, zone: TimeZone) -> String {
    text.parse::<Timestamp>().map_or_else(
        |_| text.to_owned(),
        |time| time.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// A step of the custody ladder.
pub(super) fn custody_step(state: &str) -> &str {
    match state {
        "saved" => "saved: durable on the till",
        "on_peer" => "on another till of the store as well",
        "at_hub" => "at the hub: durable there",
        "posted" => "posted: in the books",
        "in_review" => "in the books, held for a person to judge",
        "exported" => "exported: handed to the bookkeeper",
        other => other,
    }
}

/// Whether the later party could know of the earlier, in a sentence.
pub(super) fn verdict(verdict: &Value) -> &'static str {
    match verdict.as_str() {
        Some("concurrent") => "concurrent: neither till could know of the other",
        Some("knowing") => "knowing: the later one had the earlier one on its till when it was made",
        _ => "",
    }
}

/// How urgent a case is.
pub(super) fn severity(severity: &Value) -> String {
    match severity.as_u64() {
        Some(1) => "today".to_owned(),
        Some(2) => "this period".to_owned(),
        Some(3) => "for information".to_owned(),
        _ => text(severity),
    }
}

/// What a case or a hold is about (LEDGER-RULES section 8), as one would say it across the counter.
pub(super) fn doubt(code: &str) -> &str {
    match code {
        "REVERSAL_CONFLICT" => "voids or refunds that exclude each other",
        "AWAITING_ORIGINAL" => "the original has not arrived yet, or is held itself",
        "ORPHAN_REFERENCE" => "the original does not exist",
        "NO_REFERENCE" => "a return without a receipt",
        "INVALID_REFERENCE" => "it names something that cannot be reversed so",
        "VOID_AFTER_CLOSE" => "a void after the day's close or the card settlement",
        "VOID_TENDER_MISMATCH" => "a void that pays back by other tenders",
        "REFUND_OVER_LIMIT" => "a refund above the limit that nobody approved",
        "DUPLICATE_CAPTURE" => "one basket or receipt number twice",
        "DUPLICATE_PAYMENT" => "one card authorisation twice",
        "SUSPECTED_DUPLICATE" => "the same basket twice within a minute",
        "CLONED_TERMINAL" => "two records with one number: a copied device",
        "BROKEN_CHAIN" => "a record that does not follow the one before it",
        "SEQUENCE_GAP" => "a missing number",
        "REVOKED_TERMINAL" => "records of a till whose right had ended",
        "CLOCK_SKEW" => "a till's clock ran backwards",
        "TENDER_MISMATCH" => "tenders that do not add up",
        "CURRENCY_MISMATCH" => "a currency that the store does not take",
        "NEGATIVE_AMOUNT" => "an amount with the wrong sign",
        "FAILED_PAYMENT" => "a card payment that failed after the goods were gone",
        "FAILED_REFUND_PAYMENT" => "a card refund that failed",
        "PAYMENT_AFTER_VOID" => "a card payment approved after its sale was voided",
        "REFUND_OTHER_TENDER" => "a refund by another tender than the sale's",
        "LATE_RECORD" => "a record of a day that was already locked",
        "Z_MISMATCH" => "a Z report that differs from its records",
        "CASH_OVER_SHORT" => "more or less cash than there should be",
        "LINE_ARITHMETIC" => "a line whose amount is not price times quantity",
        "TAX_ARITHMETIC" => "a line whose tax is not its rate",
        "REFUND_WINDOW" => "a refund after the time for refunds",
        "DOUBLE_VOID" => "already voided by another",
        "REFUND_AFTER_VOID" => "a refund of a sale that was voided",
        "VOID_AFTER_REFUND" => "a void of a sale that was refunded",
        "OVER_REFUND" => "more given back than was sold",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ages_name_the_two_units_that_matter() {
        let cases = [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (725, "12 min"),
            (3_600, "1 h"),
            (11_100, "3 h 5 min"),
            (86_400, "1 day"),
            (187_200, "2 days 4 h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn times_are_shown_by_the_clock_on_the_wall() {
        let plus_two = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(time_in("2026-11-23T23:05:09Z", plus_two.clone()), "2026-11-24 01:05:09");
        assert_eq!(time_in("2026-11-23T12:00:00.250+02:00", plus_two.clone()), "2026-11-23 12:00:00");
        assert_eq!(time_in("soon", plus_two), "soon");
    }

    #[test]
    fn nothing_in_a_text_reaches_the_terminal_as_a_command() {
        assert_eq!(one_line("a\r\nb\u{7}c\td \n"), "a b\u{fffd}c d");
    }

    #[test]
    fn an_unknown_word_is_shown_rather_than_hidden() {
        assert_eq!(doubt("NEW_DOUBT"), "NEW_DOUBT");
        assert_eq!(custody_step("lost"), "lost");
        assert_eq!(severity(&json!(9)), "9");
        assert_eq!(verdict(&Value::Null), "");
        assert_eq!(text_or_dash(&Value::Null), "–");
    }
}
