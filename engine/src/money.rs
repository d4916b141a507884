//! Money: integer minor units with their currency, quantities, and the tax arithmetic of the rules.
//! Nothing here rounds silently, converts a currency, or touches a float.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Largest amount of minor units accepted in one field of a transaction (10^13: 100 billion pounds).
/// It leaves sums of many records far from the edge of 64 bits.
pub const AMOUNT_LIMIT_MINOR: i64 = 10_000_000_000_000;

/// Largest quantity of one line, in ten-thousandths (100 million pieces).
pub const QUANTITY_LIMIT: i64 = 1_000_000_000_000;

/// ISO 4217 alphabetic codes in use, with their exponent (ISO 4217:2015, list one).
const CURRENCIES: &[(&str, u8)] = &[
    ("AED", 2),
    ("AFN", 2),
    ("ALL", 2),
    ("AMD", 2),
    ("ANG", 2),
    ("AOA", 2),
    ("ARS", 2),
    ("AUD", 2),
    ("AWG", 2),
    ("AZN", 2),
    ("BAM", 2),
    ("BBD", 2),
    ("BDT", 2),
    ("BGN", 2),
    ("BHD", 3),
    ("BIF", 0),
    ("BMD", 2),
    ("BND", 2),
    ("BOB", 2),
    ("BRL", 2),
    ("BSD", 2),
    ("BTN", 2),
    ("BWP", 2),
    ("BYN", 2),
    ("BZD", 2),
    ("CAD", 2),
    ("CDF", 2),
    ("CHF", 2),
    ("CLP", 0),
    ("CNY", 2),
    ("COP", 2),
    ("CRC", 2),
    ("CUP", 2),
    ("CVE", 2),
    ("CZK", 2),
    ("DJF", 0),
    ("DKK", 2),
    ("DOP", 2),
    ("DZD", 2),
    ("EGP", 2),
    ("ERN", 2),
    ("ETB", 2),
    ("EUR", 2),
    ("FJD", 2),
    ("FKP", 2),
    ("GBP", 2),
    ("GEL", 2),
    ("GHS", 2),
    ("GIP", 2),
    ("GMD", 2),
    ("GNF", 0),
    ("GTQ", 2),
    ("GYD", 2),
    ("HKD", 2),
    ("HNL", 2),
    ("HTG", 2),
    ("HUF", 2),
    ("IDR", 2),
    ("ILS", 2),
    ("INR", 2),
    ("IQD", 3),
    ("IRR", 2),
    ("ISK", 0),
    ("JMD", 2),
    ("JOD", 3),
    ("JPY", 0),
    ("KES", 2),
    ("KGS", 2),
    ("KHR", 2),
    ("KMF", 0),
    ("KPW", 2),
    ("KRW", 0),
    ("KWD", 3),
    ("KYD", 2),
    ("KZT", 2),
    ("LAK", 2),
    ("LBP", 2),
    ("LKR", 2),
    ("LRD", 2),
    ("LSL", 2),
    ("LYD", 3),
    ("MAD", 2),
    ("MDL", 2),
    ("MGA", 2),
    ("MKD", 2),
    ("MMK", 2),
    ("MNT", 2),
    ("MOP", 2),
    ("MRU", 2),
    ("MUR", 2),
    ("MVR", 2),
    ("MWK", 2),
    ("MXN", 2),
    ("MYR", 2),
    ("MZN", 2),
    ("NAD", 2),
    ("NGN", 2),
    ("NIO", 2),
    ("NOK", 2),
    ("NPR", 2),
    ("NZD", 2),
    ("OMR", 3),
    ("PAB", 2),
    ("PEN", 2),
    ("PGK", 2),
    ("PHP", 2),
    ("PKR", 2),
    ("PLN", 2),
    ("PYG", 0),
    ("QAR", 2),
    ("RON", 2),
    ("RSD", 2),
    ("RUB", 2),
    ("RWF", 0),
    ("SAR", 2),
    ("SBD", 2),
    ("SCR", 2),
    ("SDG", 2),
    ("SEK", 2),
    ("SGD", 2),
    ("SHP", 2),
    ("SLE", 2),
    ("SOS", 2),
    ("SRD", 2),
    ("SSP", 2),
    ("STN", 2),
    ("SVC", 2),
    ("SYP", 2),
    ("SZL", 2),
    ("THB", 2),
    ("TJS", 2),
    ("TMT", 2),
    ("TND", 3),
    ("TOP", 2),
    ("TRY", 2),
    ("TTD", 2),
    ("TWD", 2),
    ("TZS", 2),
    ("UAH", 2),
    ("UGX", 0),
    ("USD", 2),
    ("UYU", 2),
    ("UZS", 2),
    ("VES", 2),
    ("VND", 0),
    ("VUV", 0),
    ("WST", 2),
    ("XAF", 0),
    ("XCD", 2),
    ("XOF", 0),
    ("XPF", 0),
    ("YER", 2),
    ("ZAR", 2),
    ("ZMW", 2),
    ("ZWG", 2),
];

/// A currency of ISO 4217, by its three-letter code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// Why a text is not a currency.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a currency of ISO 4217; give a three-letter code such as GBP")]
pub struct UnknownCurrency(pub String);

impl Currency {
    /// The three-letter code.
    #[must_use]
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }

    /// Number of decimal digits of the major unit (JPY 0, GBP 2, KWD 3).
    #[must_use]
    pub fn exponent(&self) -> u8 {
        let code = self.code();
        CURRENCIES.binary_search_by(|(known, _)| (*known).cmp(code)).map_or(2, |at| CURRENCIES[at].1)
    }

    /// Writes an amount of minor units in major units, with exactly the currency's digits: `-12.00`.
    #[must_use]
    pub fn format(&self, amount_minor: i128) -> String {
        let digits = usize::from(self.exponent());
        let sign = if amount_minor < 0 { "-" } else { "" };
        let text = amount_minor.unsigned_abs().to_string();
        if digits == 0 {
            return format!("{sign}{text}");
        }
        let padded = format!("{text:0>width$}", width = digits + 1);
        let (major, minor) = padded.split_at(padded.len() - digits);
        format!("{sign}{major}.{minor}")
    }
}

impl FromStr for Currency {
    type Err = UnknownCurrency;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = CURRENCIES.binary_search_by(|(code, _)| (*code).cmp(text)).is_ok();
        match text.as_bytes() {
            &[a, b, c] if known => Ok(Self([a, b, c])),
            _ => Err(UnknownCurrency(text.chars().take(16).collect())),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(self.code())
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = if deserializer.is_human_readable() {
            String::deserialize(deserializer)?
        } else {
            let raw = <[u8; 3]>::deserialize(deserializer)?;
            String::from_utf8_lossy(&raw).into_owned()
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A quantity in ten-thousandths: pieces, or weighed goods with up to four places (0.42 kg = 4200).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Quantity(pub i64);

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a quantity; give a decimal number with at most 4 places, such as \"6\" or \"0.42\"")]
pub struct BadQuantity(pub String);

impl Quantity {
    /// One piece.
    pub const ONE: Self = Self(10_000);

    /// `pieces` whole pieces.
    #[must_use]
    pub fn pieces(pieces: i64) -> Self {
        Self(pieces.saturating_mul(10_000))
    }
}

impl FromStr for Quantity {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadQuantity(text.chars().take(32).collect());
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, places) = digits.split_once('.').unwrap_or((digits, ""));
        let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || whole.len() > 12 || places.len() > 4 || !plain(whole) || !plain(places) {
            return Err(bad());
        }
        if digits.contains('.') && places.is_empty() {
            return Err(bad());
        }
        let value = format!("{whole}{places:0<4}").parse::<i64>().map_err(|_| bad())?;
        if value > QUANTITY_LIMIT {
            return Err(bad());
        }
        Ok(Self(if negative { -value } else { value }))
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let value = self.0.unsigned_abs();
        let (whole, places) = (value / 10_000, value % 10_000);
        if places == 0 {
            return write!(f, "{sign}{whole}");
        }
        write!(f, "{sign}{whole}.{}", format!("{places:04}").trim_end_matches('0'))
    }
}

/// A tax rate in parts per ten thousand (20 % = 2000), as LEDGER-RULES section 2.4 reckons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TaxRate(pub u32);

/// Why a text is not a tax rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a tax rate; give a percentage with at most 2 places, such as \"20\" or \"17.5\"")]
pub struct BadTaxRate(pub String);

impl TaxRate {
    /// Tax contained in a tax-inclusive amount, rounded half up: `gross × r / (1 + r)`.
    #[must_use]
    pub fn tax_in_gross(self, gross_minor: i64) -> i64 {
        let (gross, rate) = (i128::from(gross_minor), i128::from(self.0));
        narrow((2 * gross * rate + 10_000 + rate).div_euclid(2 * (10_000 + rate)))
    }

    /// Tax on a tax-exclusive amount, rounded half up.
    #[must_use]
    pub fn tax_on_net(self, net_minor: i64) -> i64 {
        let (net, rate) = (i128::from(net_minor), i128::from(self.0));
        narrow((2 * net * rate + 10_000).div_euclid(20_000))
    }
}

impl FromStr for TaxRate {
    type Err = BadTaxRate;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadTaxRate(text.chars().take(16).collect());
        let percent: Quantity = text.parse().map_err(|_| bad())?;
        if percent.0 < 0 || percent.0 % 100 != 0 || percent.0 > 10_000_000 {
            return Err(bad());
        }
        u32::try_from(percent.0 / 100).map(Self).map_err(|_| bad())
    }
}

impl fmt::Display for TaxRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Quantity(i64::from(self.0) * 100).fmt(f)
    }
}

/// Unit price × quantity − discount, rounded half away from zero to the minor unit (section 2.3).
#[must_use]
pub fn line_amount(unit_price_minor: i64, quantity: Quantity, discount_minor: i64) -> i64 {
    let product = i128::from(unit_price_minor) * i128::from(quantity.0);
    let half = if product < 0 { -5_000 } else { 5_000 };
    narrow((product + half) / 10_000 - i128::from(discount_minor))
}

/// Cumulative share of `total_minor` after `part` of `whole` was returned, rounded half up (section 2.5).
/// All returns together give back exactly `total_minor`, whatever the order.
#[must_use]
pub fn cumulative_share(total_minor: i64, part: Quantity, whole: Quantity) -> i64 {
    if whole.0 <= 0 {
        return total_minor;
    }
    let (total, part, whole) = (i128::from(total_minor), i128::from(part.0), i128::from(whole.0));
    narrow((2 * total * part + whole).div_euclid(2 * whole))
}

/// Back to 64 bits. Inputs are bounded by [`AMOUNT_LIMIT_MINOR`], so leaving the range is our own bug.
fn narrow(value: i128) -> i64 {
    i64::try_from(value).expect("amounts are bounded on admission")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn currencies_are_sorted_so_that_lookup_by_halving_finds_them() {
        assert!(CURRENCIES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!("JPY".parse::<Currency>().unwrap().exponent(), 0);
        assert_eq!("KWD".parse::<Currency>().unwrap().exponent(), 3);
        assert!("XXQ".parse::<Currency>().is_err());
        assert!("gbp".parse::<Currency>().is_err());
    }

    #[test]
    fn amounts_print_with_exactly_the_digits_of_the_currency() {
        let cases = [("GBP", -5, "-0.05"), ("GBP", 12_000, "120.00"), ("JPY", 7, "7"), ("KWD", 1, "0.001")];
        for (code, minor, text) in cases {
            assert_eq!(code.parse::<Currency>().unwrap().format(minor), text);
        }
    }

    #[test]
    fn quantities_round_trip_and_refuse_more_than_four_places() {
        for text in ["6", "0.42", "-1", "12.3456", "0.0001"] {
            assert_eq!(text.parse::<Quantity>().unwrap().to_string(), text);
        }
        for text in ["", "-", "1.", ".5", "1.23456", "1e3", "+1", "9999999999999", "١"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn tax_contained_in_gross_rounds_half_up() {
        let twenty: TaxRate = "20".parse().unwrap();
        let cases = [(12_000, 2_000), (700, 117), (600, 100), (1, 0), (3, 1)];
        for (gross, tax) in cases {
            assert_eq!(twenty.tax_in_gross(gross), tax, "{gross}");
        }
        assert_eq!("17.5".parse::<TaxRate>().unwrap().tax_in_gross(1_530), 228);
        assert_eq!(twenty.tax_on_net(10_000), 2_000);
    }

    #[test]
    fn partial_returns_give_back_exactly_the_line() {
        let whole = Quantity::pieces(3);
        let steps: Vec<i64> = (0..=3).map(|n| cumulative_share(1_000, Quantity::pieces(n), whole)).collect();
        assert_eq!(steps, [0, 333, 667, 1_000]);
    }

    #[test]
    fn line_amount_rounds_half_away_from_zero() {
        assert_eq!(line_amount(255, Quantity::pieces(6), 0), 1_530);
        assert_eq!(line_amount(1, Quantity(5_000), 0), 1);
        assert_eq!(line_amount(-1, Quantity(5_000), 0), -1);
        assert_eq!(line_amount(129, Quantity::ONE, 29), 100);
    }
}
