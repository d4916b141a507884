//! A retail transaction of a POSLog as one of CONTRACT section 2, if what it states adds up: lines, tax, tenders and
//! the totals printed. What does not is refused with both figures.

use engine::money::Currency;
use serde_json::{Map, Value, json};

use super::super::element::Element;
use super::figures::{Problem, amount_in, amount_of, within};
use super::goods::{Goods, Kind, apply_reward, pair_voids, share_discount};
use super::header::Header;
use super::tax::{WholeTax, settle};
use super::tenders::Tenders;
use super::unknown::{money_in, not_understood, refuse_unknown};

/// Elements of a retail transaction that are used, or say nothing about money that is not said elsewhere.
const KNOWN: &[&str] =
    &["LineItem", "Total", "TransactionLink", "ItemCount", "TransactionCount", "PerformanceMetrics"];
/// Elements beside what a line item is.
const BESIDE: &[&str] = &["SequenceNumber", "BeginDateTime", "EndDateTime", "ItemLink"];

/// Lines and tenders in JSON form.
#[derive(Debug)]
pub(super) struct Basket {
    /// `lines`, `tenders`, `rounding_minor`, `tip_minor` and the totals.
    pub(super) fields: Map<String, Value>,
    /// Every line comes back: it is a refund.
    pub(super) all_return: bool,
    /// Nothing at all was sold or paid.
    pub(super) empty: bool,
}

/// Totals that a transaction states.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Stated {
    pub(super) grand: Option<i64>,
    tax: Option<i64>,
}

impl Stated {
    pub(super) fn read(retail: &Element, currency: Currency) -> Result<Self, Problem> {
        let mut stated = Self::default();
        let mut net = None;
        for total in retail.all("Total").filter(|total| !total.text.is_empty()) {
            let kind = total.attribute("TotalType").unwrap_or_default();
            let into = match kind {
                "TransactionGrandAmount" => &mut stated.grand,
                "TransactionTaxAmount" => &mut stated.tax,
                "TransactionNetAmount" => &mut net,
                _ => continue,
            };
            *into = Some(within(&format!("Total {kind}"), amount_in(total, currency))?);
        }
        if let (None, Some(net), Some(tax)) = (stated.grand, net, stated.tax) {
            stated.grand = Some(net.saturating_add(tax));
        }
        Ok(stated)
    }
}

/// Reads what was sold, taken back and paid. `links_to` is the sale that the transaction as a whole refers to.
pub(super) fn read(
    retail: &Element,
    header: &Header,
    returning: bool,
    links_to: Option<&str>,
) -> Result<Basket, Problem> {
    let currency = header.currency;
    refuse_unknown(retail, KNOWN)?;
    let stated = Stated::read(retail, currency)?;
    let (mut lines, mut tenders, mut taxes) = (Vec::<Goods>::new(), Tenders::default(), Vec::new());
    let (mut rewards, mut off_basket) = (Vec::new(), 0_i64);
    for (at, item) in retail.all("LineItem").enumerate() {
        let number = item.text_of("SequenceNumber").and_then(|number| number.parse().ok());
        let number = number.unwrap_or_else(|| u32::try_from(at + 1).unwrap_or(u32::MAX));
        for part in item.children.iter().filter(|part| !BESIDE.contains(&&*part.name)) {
            let read = match &*part.name {
                "Sale" | "Return" => {
                    let line = Goods::read(number, item, part, header, returning);
                    line.map(|line| lines.extend(line))
                }
                "Tender" => tenders.take(number, item, part, header),
                "Tax" => WholeTax::read(part, currency).map(|tax| taxes.push(tax)),
                "LoyaltyReward" if takes_off(item, part) => {
                    rewards.push((number, part));
                    Ok(())
                }
                "LoyaltyReward" => Ok(()),
                "Discount" => discount(part, currency).map(|minor| off_basket += minor),
                "Rounding" => amount_in(part, currency).map(|minor| tenders.rounding += minor),
                "Tip" | "Gratuity" => tip(part, currency).map(|minor| tenders.tip += minor),
                _ => money_in(part).map_or(Ok(()), |path| Err(not_understood(&path))),
            };
            within(&format!("LineItem {number}: {}", part.name), read)?;
        }
    }
    pair_voids(&mut lines);
    for (number, reward) in rewards {
        let name = format!("LineItem {number}: LoyaltyReward");
        off_basket += within(&name, apply_reward(&mut lines, reward, currency))?;
    }
    share_discount(&mut lines, off_basket)?;
    settle(&mut lines, &taxes, stated.tax.map(i64::abs))?;
    if let Some(receipt) = links_to {
        lines.iter_mut().for_each(|line| line.refers_to(receipt));
    }
    let all_return = drop_undone_if_all_return(&mut lines);
    let empty = lines.is_empty() && tenders.is_empty() && stated.grand.unwrap_or(0) == 0;
    let fields = add_up(&lines, &mut tenders, stated, header, all_return)?;
    Ok(Basket { fields, all_return, empty })
}

/// Whether every line that stands comes back. The form of a refund has no voided lines; with what they void they are
/// nothing, so both go.
fn drop_undone_if_all_return(lines: &mut Vec<Goods>) -> bool {
    let returns = |line: &Goods| line.undone || line.kind == Kind::Return;
    let all = lines.iter().any(|line| line.kind == Kind::Return) && lines.iter().all(returns);
    if all {
        lines.retain(|line| !line.undone);
    }
    all
}

fn add_up(
    lines: &[Goods],
    tenders: &mut Tenders,
    stated: Stated,
    header: &Header,
    all_return: bool,
) -> Result<Map<String, Value>, Problem> {
    let currency = header.currency;
    let money = |minor: i64| currency.format(i128::from(minor));
    let goods: i64 = lines.iter().map(|line| line.amount).sum();
    let tax: i64 = lines.iter().map(|line| line.tax).sum();
    if stated.tax.is_some_and(|stated| stated.abs() != tax.abs()) {
        return Err(format!(
            "the tax of its lines adds up to {}, but TransactionTaxAmount is {}",
            money(tax),
            money(stated.tax.unwrap_or(0))
        ));
    }
    // A refund's figures are written with or without their sign.
    let target = stated.grand.unwrap_or_else(|| tenders.sum());
    let fits = |sum: i64| sum == target || (all_return && sum == -target);
    let says_included = lines.iter().find_map(|line| line.tax_included);
    let exclusive = match says_included {
        Some(included) => !included && tax != 0,
        None => tax != 0 && (fits(goods + tax) || !fits(goods)),
    };
    let total = if exclusive { goods + tax } else { goods };
    if stated.grand.is_some() && !fits(total) {
        let with_tax = if exclusive { format!(" with tax of {}", money(tax)) } else { String::new() };
        return Err(format!(
            "its lines add up to {}{with_tax}, but TransactionGrandAmount is {}: something in it was not understood",
            money(total),
            money(target)
        ));
    }
    if all_return && total < 0 && tenders.sum() > 0 {
        tenders.turn();
    }
    let (rounding, tip) = (tenders.rounding, tenders.tip);
    tenders.settle_cashback(total);
    let over = tenders.sum() - total;
    let (rounding, tip) = match over {
        0 => (0, 0),
        over if tip != 0 && over == tip => (0, tip),
        over if rounding != 0 && over.abs() == rounding.abs() => (over, 0),
        over if tip != 0 && (over - tip).abs() == rounding.abs() => (over - tip, tip),
        _ => {
            return Err(format!(
                "its tenders add up to {}, but its lines to {}: something in it was not understood",
                money(tenders.sum()),
                money(total)
            ));
        }
    };
    let sign = if all_return { -1 } else { 1 };
    let lines: Vec<Value> = lines.iter().map(|line| line.to_json(all_return, exclusive)).collect();
    let fields = [
        ("lines", json!(lines)),
        ("tenders", json!(tenders.to_json(all_return, &header.receipt))),
        ("rounding_minor", json!(rounding * sign)),
        ("tip_minor", json!(tip * sign)),
        ("total_minor", json!(total * sign)),
        ("tax_total_minor", json!(tax * sign)),
    ];
    Ok(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Whether a reward is money, told in detail. A summary says again what the details say, and the rest are messages.
fn takes_off(item: &Element, reward: &Element) -> bool {
    let money = reward.text_of("RewardCategory").is_none_or(|category| category == "Monetary");
    let detailed = reward.said("detailedData").unwrap_or(!reward.flag("summarizedActivity"));
    let standing = !item.flag("VoidFlag")
        || reward.text_of("ExtendedRewardAmount").is_some_and(|text| !text.starts_with('-'));
    money && detailed && standing && reward.text_of("ExtendedRewardAmount").is_some()
}

/// A discount on the whole basket, as a positive amount taken off.
fn discount(part: &Element, currency: Currency) -> Result<i64, Problem> {
    refuse_unknown(part, &["Amount", "Percent", "Percentage", "TaxableAmount"])?;
    let mut sum = 0_i64;
    for amount in part.all("Amount") {
        let minor = within("Amount", amount_in(amount, currency))?.abs();
        sum += if amount.attribute("Action") == Some("Add") { -minor } else { minor };
    }
    Ok(sum)
}

fn tip(part: &Element, currency: Currency) -> Result<i64, Problem> {
    match amount_of(part, "Amount", currency)? {
        Some(minor) => Ok(minor),
        None => amount_in(part, currency),
    }
}
