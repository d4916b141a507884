//! How things look: amounts with their currency, times by the shop's clock, ages, shares. Pure; the time is an argument.

use engine::money::Currency;
use engine::time::{Day, Instant};
use maud::{Markup, html};

use crate::runtime::clock::Clock;

/// What currencies are called on a receipt; others go by their code.
const SIGNS: &[(&str, &str)] = &[("GBP", "£"), ("EUR", "€"), ("USD", "$"), ("JPY", "¥"), ("INR", "₹")];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `£1,234.50`, `−£3.00`, `CHF 12.00`.
pub fn money(minor: impl Into<i128>, currency: Currency) -> String {
    let minor: i128 = minor.into();
    let plain = currency.format(minor);
    let digits = plain.trim_start_matches('-');
    let (whole, rest) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if minor < 0 { "−" } else { "" };
    let name = SIGNS
        .iter()
        .find(|row| row.0 == currency.code())
        .map_or_else(|| format!("{currency}\u{a0}"), |row| row.1.to_owned());
    format!("{sign}{name}{grouped}{rest}")
}

/// An amount that may have no currency, as cases have it.
pub fn money_of(minor: i64, currency: Option<Currency>) -> String {
    currency.map_or_else(String::new, |currency| money(minor, currency))
}

/// A whole number with its thousands apart.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 till`, `1,204 tills`.
pub fn count(value: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(value), if value == 1 { one } else { many })
}

/// A span in the unit that matters: `45 s`, `12 min`, `3 h 5 min`, `2 days 4 h`.
pub fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let and = |rest: i64, unit: &str| if rest == 0 { String::new() } else { format!(" {rest} {unit}") };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h{}", and(minutes % 60, "min")),
        _ => {
            format!("{days} {}{}", if days == 1 { "day" } else { "days" }, and(hours % 24, "h"))
        }
    }
}

/// A short span with the digits that matter: `8 ms`, `1.2 s`, `3 min`.
pub fn brief(ms: i64) -> String {
    match ms {
        i64::MIN..1_000 => format!("{} ms", ms.max(0)),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => span(ms),
    }
}

/// Millionths as per cent: `99.98 %`; never rounded up to a whole that it is not.
pub fn percent(ppm: i64) -> String {
    let hundredths = ppm.div_euclid(100);
    format!("{}.{:02} %", hundredths / 100, (hundredths % 100).abs())
}

/// `24 Nov 2026`.
pub fn day(day: Day) -> String {
    let text = day.to_string();
    let month = text.get(5..7).and_then(|month| month.parse::<usize>().ok()).unwrap_or(1);
    let number = text.get(8..10).unwrap_or("").trim_start_matches('0');
    format!("{number} {} {}", MONTHS[(month.max(1) - 1).min(11)], text.get(..4).unwrap_or(""))
}

/// `24 Nov`.
pub fn short_day(of: Day) -> String {
    let full = day(of);
    full.rsplit_once(' ').map_or(full.clone(), |parts| parts.0.to_owned())
}

/// `10:05:33`, as an instant's own clock showed it.
fn clock_time(at: Instant) -> String {
    at.to_string().get(11..19).unwrap_or("").to_owned()
}

/// A point in time by the shop's clock, in full.
pub fn time(at_ms: i64, clock: &Clock) -> Markup {
    instant(clock.at(at_ms))
}

/// A point in time as the clock showed that took it.
pub fn instant(at: Instant) -> Markup {
    html! { time datetime=(at) { (day(at.day())) " " (clock_time(at)) } }
}

/// A point in time by the shop's clock: the time alone on the same day.
pub fn time_today(at_ms: i64, now_ms: i64, clock: &Clock) -> Markup {
    let at = clock.at(at_ms);
    if at.day() != clock.at(now_ms).day() {
        return instant(at);
    }
    let text = clock_time(at);
    html! { time datetime=(at) { (text.get(..5).unwrap_or("")) } }
}

/// How long ago, with the point in time for who wants to know.
pub fn ago(at_ms: i64, now_ms: i64, clock: &Clock) -> Markup {
    let at = clock.at(at_ms);
    let exact = format!("{} {}", day(at.day()), clock_time(at));
    let text = if now_ms - at_ms < 5_000 { "just now".to_owned() } else { span(now_ms - at_ms) + " ago" };
    html! { time datetime=(at) title=(exact) { (text) } }
}

/// Reads an amount as a person types it (`12`, `12.5`, `12,50`, `£12.50`) into minor units.
pub fn read_money(text: &str, currency: Currency) -> Option<i64> {
    let sign = SIGNS.iter().find(|row| row.0 == currency.code()).map_or("", |row| row.1);
    let typed = text.replace('\u{2212}', "-").replace(currency.code(), "");
    let typed = if sign.is_empty() { typed } else { typed.replace(sign, "") };
    let plain: String = typed.chars().filter(|it| !it.is_whitespace()).collect();
    // What is neither a digit nor a sign of an amount makes the whole no amount: nothing is guessed.
    if !plain.chars().all(|it| it.is_ascii_digit() || matches!(it, '.' | ',' | '-')) {
        return None;
    }
    let (whole, part) = plain.rsplit_once(['.', ',']).unwrap_or((&plain, ""));
    let digits = usize::from(currency.exponent());
    if plain.is_empty() || part.len() > digits || whole.contains(['.', ',']) || part.contains('-') {
        return None;
    }
    format!("{}{part:0<digits$}", if whole.is_empty() { "0" } else { whole }).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_carry_their_currency_and_keep_its_digits() {
        let of = |minor: i64, code: &str| money(minor, code.parse().unwrap());
        assert_eq!(of(123_450, "GBP"), "£1,234.50");
        assert_eq!(of(-300, "GBP"), "−£3.00");
        assert_eq!(of(1_200, "CHF"), "CHF\u{a0}12.00");
        assert_eq!(of(1_234_567, "JPY"), "¥1,234,567");
        assert_eq!(
            (number(0), number(1_000), number(12_345_678)),
            ("0".into(), "1,000".into(), "12,345,678".into())
        );
    }

    #[test]
    fn what_people_type_is_read_and_never_guessed() {
        let pounds = "GBP".parse().unwrap();
        for (text, minor) in
            [("12", 1_200), ("12.5", 1_250), ("12,50", 1_250), (" £ 12.05", 1_205), (".5", 50), ("-3", -300)]
        {
            assert_eq!(read_money(text, pounds), Some(minor), "{text}");
        }
        assert_eq!(read_money("−£111.55", pounds), Some(-11_155), "as a page prints it");
        assert_eq!(read_money("GBP 3", pounds), Some(300));
        for text in ["", "x", "x12", "€3", "1.234", "1,234.00", "1.2.3", "3-2", "--3"] {
            assert_eq!(read_money(text, pounds), None, "{text}");
        }
    }

    #[test]
    fn shares_and_spans_are_not_made_prettier() {
        assert_eq!(
            (percent(999_999), percent(1_000_000), percent(0)),
            ("99.99 %".into(), "100.00 %".into(), "0.00 %".into())
        );
        assert_eq!(
            (span(59_000), span(3_900_000), span(100_000_000)),
            ("59 s".into(), "1 h 5 min".into(), "1 day 3 h".into())
        );
        assert_eq!((brief(8), brief(1_250)), ("8 ms".into(), "1.2 s".into()));
        assert_eq!(day("2026-11-04".parse().unwrap()), "4 Nov 2026");
    }
}
