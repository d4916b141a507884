//! Numbers of a POSLog: decimal text into minor units and quantities, exactly or not at all; and the sharing out of
//! one amount over several lines.

use engine::money::{AMOUNT_LIMIT_MINOR, Currency, Quantity, line_amount};
use engine::transaction::mask_card_numbers;

use super::super::element::Element;

/// What is wrong, in words.
pub(super) type Problem = String;

/// Names the element in which a problem is.
pub(super) fn within<T>(name: &str, result: Result<T, Problem>) -> Result<T, Problem> {
    result.map_err(|problem| format!("{name}: {problem}"))
}

/// A decimal number in minor units of a currency. A third decimal of a price in pence is no amount.
pub(super) fn amount(text: &str, currency: Currency) -> Result<i64, Problem> {
    let shown = || mask_card_numbers(&text.chars().take(40).collect::<String>());
    let bad =
        || format!("{:?} is no amount of {currency}; write 12.34, without thousands separators", shown());
    let trimmed = text.trim();
    let (negative, digits) = trimmed.strip_prefix('-').map_or((false, trimmed), |rest| (true, rest));
    let (whole, places) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(places) || (whole.is_empty() && places.is_empty()) {
        return Err(bad());
    }
    let exponent = usize::from(currency.exponent());
    let (kept, beyond) = places.split_at(places.len().min(exponent));
    if beyond.bytes().any(|byte| byte != b'0') {
        return Err(format!("{:?} has more decimals than {currency}", shown()));
    }
    let whole = whole.trim_start_matches('0');
    if whole.len() > 15 {
        return Err(format!("{:?} is out of range", shown()));
    }
    let minor: i64 = format!("0{whole}{kept:0<exponent$}").parse().map_err(|_| bad())?;
    if minor > AMOUNT_LIMIT_MINOR {
        return Err(format!("{:?} is out of range", shown()));
    }
    Ok(if negative { -minor } else { minor })
}

/// The amount of a child, if it is there and not empty.
pub(super) fn amount_of(parent: &Element, name: &str, currency: Currency) -> Result<Option<i64>, Problem> {
    let Some(child) = parent.child(name).filter(|child| !child.text.is_empty()) else { return Ok(None) };
    within(name, amount_in(child, currency)).map(Some)
}

/// The amount that an element states, in the currency of the transaction.
pub(super) fn amount_in(element: &Element, currency: Currency) -> Result<i64, Problem> {
    match element.attribute("Currency").or_else(|| element.attribute("CurrencyCode")) {
        Some(other) if other != currency.code() => {
            Err(format!("is in {other}, the transaction in {currency}; no rule converts currencies"))
        }
        _ => amount(&element.text, currency),
    }
}

/// A quantity; zeros beyond the fourth decimal say nothing.
pub(super) fn quantity(text: &str) -> Result<Quantity, Problem> {
    let text = text.trim();
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
    let whole = if text.starts_with('.') { format!("0{text}") } else { text.to_owned() };
    whole.parse().map_err(|error: engine::money::BadQuantity| error.to_string())
}

/// Price times quantity less a discount, as LEDGER-RULES section 2.3 rounds; none beyond what an amount can be.
pub(super) fn times(price: i64, quantity: Quantity, discount: i64) -> Option<i64> {
    let limit = i128::from(AMOUNT_LIMIT_MINOR) * 10_000;
    let product = i128::from(price) * i128::from(quantity.0);
    (product.abs() <= limit).then(|| line_amount(price, quantity, discount))
}

/// Shares an amount out by weights, by largest remainder, ties to the earlier (LEDGER-RULES section 2.6). The shares
/// add up to the amount. Weights may be negative (a voided line gives back what it took), their sum may not be zero.
pub(super) fn share(amount: i64, weights: &[i64]) -> Result<Vec<i64>, Problem> {
    let whole: i128 = weights.iter().map(|weight| i128::from(*weight)).sum();
    if whole == 0 {
        return Err("there is nothing to share it out over".to_owned());
    }
    let exact = weights.iter().map(|weight| i128::from(amount) * i128::from(*weight) * whole.signum());
    let whole = whole.abs();
    let parts: Vec<(i128, i128)> =
        exact.map(|part| (part.div_euclid(whole), part.rem_euclid(whole))).collect();
    let given: i128 = parts.iter().map(|part| part.0).sum();
    let left = usize::try_from(i128::from(amount) - given).unwrap_or(0);
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|at| (-parts[*at].1, *at));
    let mut shares: Vec<i128> = parts.iter().map(|part| part.0).collect();
    for at in order.into_iter().take(left) {
        shares[at] += 1;
    }
    shares.into_iter().map(|share| i64::try_from(share).map_err(|_| "is out of range".to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd() -> Currency {
        "USD".parse().unwrap()
    }

    #[test]
    fn amounts_are_exact_or_refused() {
        let cases =
            [("2.99", 299), ("-20.00", -2_000), ("3", 300), (".5", 50), ("1.500", 150), ("0007.10", 710)];
        for (text, minor) in cases {
            assert_eq!(amount(text, usd()).unwrap(), minor, "{text}");
        }
        assert_eq!(amount("120", "JPY".parse().unwrap()).unwrap(), 120);
        assert_eq!(amount("1.234", "KWD".parse().unwrap()).unwrap(), 1_234);
        for text in [
            "",
            "-",
            ".",
            "1,000.00",
            "1e9",
            "+1",
            "NaN",
            "1.005",
            "1.2.3",
            "99999999999999999999",
            "0x10",
            "١",
        ] {
            assert!(amount(text, usd()).is_err(), "{text}");
        }
        assert!(amount("9999999999999.00", usd()).unwrap_err().contains("out of range"));
        assert!(!amount("4242424242424242x", usd()).unwrap_err().contains("4242424242424242"));
    }

    #[test]
    fn quantities_drop_only_zeros() {
        for (text, want) in
            [("0.42", "0.42"), ("3.00000", "3"), ("10", "10"), (".5", "0.5"), ("-1.47", "-1.47")]
        {
            assert_eq!(quantity(text).unwrap().to_string(), want);
        }
        assert!(quantity("1.23456").is_err());
        assert_eq!(times(AMOUNT_LIMIT_MINOR, quantity("99999999").unwrap(), 0), None);
    }

    #[test]
    fn shares_add_up_and_ties_go_to_the_earlier() {
        assert_eq!(share(100, &[1, 1, 1]).unwrap(), [34, 33, 33]);
        assert_eq!(share(-100, &[1, 1, 1]).unwrap(), [-33, -33, -34]);
        assert_eq!(share(10, &[500, 500, -500]).unwrap(), [10, 10, -10]);
        assert_eq!(share(7, &[-100, -33]).unwrap().iter().sum::<i64>(), 7);
        assert_eq!(share(0, &[3, 5]).unwrap(), [0, 0]);
        assert!(share(1, &[5, -5]).is_err());
    }
}
