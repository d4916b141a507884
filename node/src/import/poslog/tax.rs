//! Tax of a POSLog transaction: stated line by line, or for the whole transaction and then shared out over the lines
//! that it was charged on, so that the sum is exactly what the log states. It computes no tax of its own.

use engine::money::Currency;

use super::super::element::Element;
use super::figures::{Problem, amount_of, share, within};
use super::goods::{Goods, tax_id};

/// A tax on the transaction as a whole.
pub(super) struct WholeTax<'a> {
    tax: &'a Element,
    minor: i64,
    taxable: Option<i64>,
}

impl<'a> WholeTax<'a> {
    pub(super) fn read(tax: &'a Element, currency: Currency) -> Result<Self, Problem> {
        let minor = amount_of(tax, "Amount", currency)?.unwrap_or(0);
        let taxable = amount_of(tax, "TaxableAmount", currency)?;
        Ok(Self { tax, minor, taxable })
    }
}

/// Brings the taxes to the lines. `stated` is the total tax that the log names, without sign.
pub(super) fn settle(
    lines: &mut [Goods],
    whole: &[WholeTax<'_>],
    stated: Option<i64>,
) -> Result<(), Problem> {
    let by_line: i64 = lines.iter().map(|line| line.tax).sum();
    let by_whole: i64 = whole.iter().map(|tax| tax.minor).sum();
    if lines.iter().any(|line| line.states_tax) {
        // Most logs that state tax by line say it again for the whole; some split it over both.
        let again = by_whole == 0 || by_whole.abs() == by_line.abs() || stated == Some(by_line.abs());
        if again {
            return Ok(());
        }
        if stated.is_some_and(|stated| stated != (by_line + by_whole).abs()) {
            return Err(format!(
                "Tax: its lines state {by_line} minor units and the transaction {by_whole}, and neither is its total tax"
            ));
        }
    }
    for tax in whole {
        within("Tax", share_out(lines, tax))?;
    }
    Ok(())
}

fn share_out(lines: &mut [Goods], tax: &WholeTax<'_>) -> Result<(), Problem> {
    if tax.minor == 0 {
        return Ok(());
    }
    let charged = charged_on(lines, tax);
    let weights: Vec<i64> =
        lines.iter().zip(&charged).map(|(line, charged)| if *charged { line.amount } else { 0 }).collect();
    // Logs write the tax of a return with or without its sign; it is that of the goods.
    let goods: i128 = weights.iter().map(|weight| i128::from(*weight)).sum();
    let minor = if goods < 0 { -tax.minor.abs() } else { tax.minor };
    let shares = share(minor, &weights)?;
    for ((line, share), charged) in lines.iter_mut().zip(shares).zip(charged) {
        line.tax += share;
        if charged {
            line.note_rate(tax.tax);
        }
    }
    Ok(())
}

/// The lines that a tax was charged on: those marked with its id; or all, if the log marks none.
fn charged_on(lines: &[Goods], tax: &WholeTax<'_>) -> Vec<bool> {
    let marked = |line: &Goods| tax_id(tax.tax).is_some_and(|id| line.taxed_by.iter().any(|mark| mark == id));
    let choose = |chosen: &dyn Fn(&Goods) -> bool| -> Vec<bool> {
        lines.iter().map(|line| !line.undone && line.amount != 0 && chosen(line)).collect()
    };
    let by_mark = choose(&marked);
    if by_mark.contains(&true) {
        return by_mark;
    }
    // A single line may be the taxable one, and then its amount says so.
    let alone = tax.taxable.and_then(|taxable| {
        let mut fits = lines.iter().filter(|line| !line.undone && line.amount.abs() == taxable.abs());
        fits.next().filter(|_| fits.next().is_none()).map(|line| line.number)
    });
    let all: i64 = lines.iter().filter(|line| !line.undone).map(|line| line.amount).sum();
    match alone {
        Some(number) if tax.taxable.map(i64::abs) != Some(all.abs()) => choose(&|line| line.number == number),
        _ => choose(&|_| true),
    }
}
