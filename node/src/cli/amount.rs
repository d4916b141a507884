//! Amounts as a person types and reads them, exact by the digits of the currency. Never a float, never a guess: what
//! does not fit is an error.

use engine::money::{AMOUNT_LIMIT_MINOR, Currency};
use serde_json::Value;

/// Reads an amount in major units (`12.50`), or whole minor units if `minor` says so.
///
/// # Errors
/// It is not a plain number, has more digits than the currency, or is out of range. The text says what would be right.
pub(super) fn parse(text: &str, currency: Currency, minor: bool) -> Result<i64, String> {
    let digits = if minor { 0 } else { usize::from(currency.exponent()) };
    let (negative, plain) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, places) =
        plain.split_once('.').map_or((plain, None), |(whole, places)| (whole, Some(places)));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || places.is_some_and(|places| !is_number(places)) {
        return Err(format!("{text:?} is not an amount; write it like {}", example(currency, minor)));
    }
    let places = places.unwrap_or("");
    if places.len() > digits {
        let unit = if minor { "a minor unit".to_owned() } else { currency.to_string() };
        return Err(format!("{text:?} has {} decimals; {unit} has {digits}", places.len()));
    }
    let value =
        format!("{whole}{places:0<digits$}").parse::<i64>().ok().filter(|it| *it <= AMOUNT_LIMIT_MINOR);
    let value = value.ok_or_else(|| format!("{text:?} is out of range"))?;
    Ok(if negative { -value } else { value })
}

fn example(currency: Currency, minor: bool) -> String {
    if minor { "1250 (minor units)".to_owned() } else { currency.format(i128::from(10_i64.pow(3)) + 250) }
}

/// Minor units out of a JSON field: an integer, or a decimal string where 64 bits do not suffice.
pub(super) fn minor(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Major units with exactly the currency's digits; a currency that is not known here is shown in minor units as such.
/// Without a currency there is no amount: nothing is shown.
pub(super) fn show(value: &Value, currency: &str) -> String {
    if currency.is_empty() {
        return String::new();
    }
    let Some(minor) = minor(value) else { return String::new() };
    currency.parse::<Currency>().map_or_else(|_| format!("{minor} minor units"), |known| known.format(minor))
}

/// The same with the currency in front: `GBP 12.50`.
pub(super) fn show_with_currency(value: &Value, currency: &str) -> String {
    let shown = show(value, currency);
    if shown.is_empty() { shown } else { format!("{currency} {shown}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_are_read_exactly_by_the_digits_of_the_currency() {
        let cases = [
            ("12.50", "GBP", Ok(1_250)),
            ("12", "GBP", Ok(1_200)),
            ("12.5", "GBP", Ok(1_250)),
            ("0.01", "GBP", Ok(1)),
            ("-0.02", "GBP", Ok(-2)),
            ("700", "JPY", Ok(700)),
            ("1.234", "KWD", Ok(1_234)),
            ("0.1", "KWD", Ok(100)),
            ("100000000000", "GBP", Ok(10_000_000_000_000)),
            ("1.005", "GBP", Err("\"1.005\" has 3 decimals; GBP has 2")),
            ("7.0", "JPY", Err("\"7.0\" has 1 decimals; JPY has 0")),
            ("12,50", "GBP", Err("\"12,50\" is not an amount; write it like 12.50")),
            ("1.", "GBP", Err("\"1.\" is not an amount; write it like 12.50")),
            (".5", "GBP", Err("\".5\" is not an amount; write it like 12.50")),
            ("1e3", "GBP", Err("\"1e3\" is not an amount; write it like 12.50")),
            ("", "GBP", Err("\"\" is not an amount; write it like 12.50")),
            ("100000000000.01", "GBP", Err("\"100000000000.01\" is out of range")),
            ("99999999999999999999", "GBP", Err("\"99999999999999999999\" is out of range")),
        ];
        for (text, currency, want) in cases {
            let got = parse(text, currency.parse().unwrap(), false);
            assert_eq!(got, want.map_err(str::to_owned), "{text} {currency}");
        }
    }

    #[test]
    fn minor_units_are_whole() {
        let pounds: Currency = "GBP".parse().unwrap();
        assert_eq!(parse("1250", pounds, true), Ok(1_250));
        assert_eq!(parse("12.50", pounds, true).unwrap_err(), "\"12.50\" has 2 decimals; a minor unit has 0");
    }

    #[test]
    fn amounts_are_shown_in_major_units_even_beyond_64_bits() {
        assert_eq!(show(&json!(-5), "GBP"), "-0.05");
        assert_eq!(show_with_currency(&json!(700), "JPY"), "JPY 700");
        assert_eq!(show(&json!("92233720368547758080"), "GBP"), "922337203685477580.80");
        assert_eq!(show(&json!(1.5), "GBP"), "");
        assert_eq!(show(&json!(0), ""), "");
        assert_eq!(show(&json!(5), "???"), "5 minor units");
    }
}
