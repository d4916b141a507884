//! Money in elements that the reading does not know: nothing is lost in silence. Goes by names and figures, and rather
//! names one element too many than one too few.

use super::super::element::Element;

/// What names of elements and attributes with money end in or hold.
const MONEY: &[&str] = &[
    "Amount", "Price", "Fee", "Charge", "Total", "Cash", "Change", "Tip", "Gratuity", "Rounding", "Deposit",
    "Donation", "Discount", "Balance", "Payment", "Money",
];

/// The path of the first figure other than zero whose name speaks of money.
pub(super) fn money_in(element: &Element) -> Option<String> {
    let mut found = None;
    element.walk("", &mut |path, element| {
        if found.is_some() {
            return;
        }
        if speaks_of_money(&element.name) && is_figure(&element.text) {
            found = Some(path.to_owned());
        }
        let attribute =
            element.attributes.iter().find(|(name, value)| speaks_of_money(name) && is_figure(value));
        if let (None, Some((name, _))) = (&found, attribute) {
            found = Some(format!("{path}@{name}"));
        }
    });
    found
}

/// Refuses a child whose name is not known and which holds money.
pub(super) fn refuse_unknown(parent: &Element, known: &[&str]) -> Result<(), String> {
    let strange = parent.children.iter().filter(|child| !known.contains(&&*child.name));
    match strange.filter_map(money_in).next() {
        Some(path) => Err(not_understood(&format!("{}/{path}", parent.name))),
        None => Ok(()),
    }
}

pub(super) fn not_understood(path: &str) -> String {
    format!(
        "{path} holds money and is not understood: ring it by hand with `tillsync sale`, or have this element mapped"
    )
}

fn speaks_of_money(name: &str) -> bool {
    MONEY.iter().any(|word| name.contains(word))
}

/// A decimal number other than zero.
fn is_figure(text: &str) -> bool {
    let text = text.trim().trim_start_matches(['-', '+']);
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b','))
        && text.bytes().any(|byte| (b'1'..=b'9').contains(&byte))
}
