//! Finds card numbers in free text (LEDGER-RULES section 12.3), so that they are refused before they are written.

/// Whether a text holds 13 to 19 digits, spaces and dashes removed, that start like a card number and pass the
/// Luhn test.
#[must_use]
pub fn looks_like_card_number(text: &str) -> bool {
    find(text).is_some()
}

/// The text with every card number in it replaced, for messages.
#[must_use]
pub fn mask_card_numbers(text: &str) -> String {
    let mut masked = text.to_owned();
    while let Some((start, end)) = find(&masked) {
        masked.replace_range(start..end, "[card number]");
    }
    masked
}

/// Byte range of the first card number, longest candidate first.
fn find(text: &str) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let run_end = run_end(bytes, at);
        let digits: Vec<(usize, u8)> =
            (at..run_end).filter(|&i| bytes[i].is_ascii_digit()).map(|i| (i, bytes[i] - b'0')).collect();
        if let Some(found) = in_run(&digits) {
            return Some(found);
        }
        at = run_end;
    }
    None
}

/// End of a run of digits with single spaces or dashes between them.
fn run_end(bytes: &[u8], start: usize) -> usize {
    let mut end = start;
    let mut at = start;
    while at < bytes.len() {
        if bytes[at].is_ascii_digit() {
            end = at + 1;
        } else if !matches!(bytes[at], b' ' | b'-') {
            break;
        }
        at += 1;
    }
    end
}

/// A number is written whole or in groups: it begins and ends where a group does, so that a stretch inside a
/// longer number is not taken for a card by chance.
fn in_run(digits: &[(usize, u8)]) -> Option<(usize, usize)> {
    let begins = |at: usize| at == 0 || digits[at - 1].0 + 1 != digits[at].0;
    let ends = |at: usize| at + 1 == digits.len() || digits[at].0 + 1 != digits[at + 1].0;
    for start in (0..digits.len()).filter(|&at| begins(at)) {
        for length in (13..=19usize).rev() {
            let Some(window) = digits.get(start..start + length) else { continue };
            if ends(start + length - 1) && starts_like_card(window) && luhn(window) {
                return Some((window[0].0, window[length - 1].0 + 1));
            }
        }
    }
    None
}

/// Issuer prefixes: 2 and 5 (Mastercard, Mir), 3 (Amex, Diners, JCB), 4 (Visa), 6 (Discover, UnionPay, Maestro).
fn starts_like_card(digits: &[(usize, u8)]) -> bool {
    matches!(digits[0].1, 2..=6) && digits.iter().any(|digit| digit.1 != digits[0].1)
}

fn luhn(digits: &[(usize, u8)]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, &(_, digit))| {
            let doubled = u32::from(digit) * if at % 2 == 1 { 2 } else { 1 };
            if doubled > 9 { doubled - 9 } else { doubled }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn card_numbers_are_found_however_they_are_written() {
        for text in [
            "4242424242424242",
            "paid 4242 4242 4242 4242 thanks",
            "5555-5555-5555-4444",
            "x378282246310005y",
        ] {
            assert!(looks_like_card_number(text), "{text}");
            assert!(!looks_like_card_number(&mask_card_numbers(text)));
        }
    }

    #[test]
    fn ordinary_numbers_are_not_card_numbers() {
        for text in [
            "40788303218",
            "4242424242424241",
            "2010-12-01 08:26",
            "order 1234567890123",
            "4444444444444444444",
        ] {
            assert!(!looks_like_card_number(text), "{text}");
        }
    }
}
