//! The goods of a POSLog transaction: sales, returns, voided lines, and what was taken off them, line by line or from
//! the whole basket. It adds nothing up; whether the sums are those of the log is asked in `sums`.

use engine::money::{Currency, Quantity};
use serde_json::{Value, json};

use super::super::element::Element;
use super::figures::{Problem, amount_in, amount_of, quantity, share, times, within};
use super::header::Header;
use super::unknown::refuse_unknown;

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Goods sold.
    Sale,
    /// A gift card sold.
    GiftCard,
    /// Goods taken back; the amount is negative.
    Return,
    /// A line that takes an earlier one off before tender; the amount is negative.
    Void,
}

/// A line in the making.
#[derive(Debug, Clone)]
pub(super) struct Goods {
    pub(super) number: u32,
    pub(super) kind: Kind,
    sku: String,
    description: Option<String>,
    quantity: Quantity,
    unit_price: Option<i64>,
    discount: i64,
    /// After discount; negative where money goes back.
    pub(super) amount: i64,
    /// Tax with the sign of the amount.
    pub(super) tax: i64,
    pub(super) tax_code: Option<String>,
    pub(super) tax_rate: Option<String>,
    /// Whether the line states its own tax.
    pub(super) states_tax: bool,
    /// Whether tax is in the price, if the log says.
    pub(super) tax_included: Option<bool>,
    /// Tax ids that the line is marked with.
    pub(super) taxed_by: Vec<String>,
    /// Undone by a void line of the same goods, or such a line: neither discount nor tax is shared out over it.
    pub(super) undone: bool,
    /// The sale that goods come back from, and its line.
    original: Option<(String, Option<u32>)>,
    /// By which rewards name the line.
    handle: Option<String>,
}

/// What is known in a sale or return line, whether it is used or only says the same again.
const KNOWN: &[&str] = &[
    "POSIdentity",
    "ItemID",
    "SpecialOrderNumber",
    "MerchandiseHierarchy",
    "Description",
    "RegularSalesUnitPrice",
    "ActualSalesUnitPrice",
    "ExtendedAmount",
    "DiscountAmount",
    "ExtendedDiscountAmount",
    "Quantity",
    "UnitListPrice",
    "UnitCostPrice",
    "InventoryValuePrice",
    "ManufacturersPrice",
    "RetailPriceModifier",
    "Tax",
    "TransactionLink",
    "ItemLink",
];

impl Goods {
    /// Reads a `Sale` or `Return` element of a line item; none for a line that was voided and took no part.
    pub(super) fn read(
        number: u32,
        item: &Element,
        goods: &Element,
        header: &Header,
        all_return: bool,
    ) -> Result<Option<Self>, Problem> {
        let currency = header.currency;
        refuse_unknown(goods, KNOWN)?;
        let extended = amount_of(goods, "ExtendedAmount", currency)?;
        let stated_quantity = goods.text_of("Quantity").map(quantity).transpose();
        let stated_quantity = within("Quantity", stated_quantity)?.unwrap_or(Quantity::ONE);
        let regular = price_of(goods, "RegularSalesUnitPrice", currency)?;
        let actual = price_of(goods, "ActualSalesUnitPrice", currency)?;
        let pieces = Quantity(stated_quantity.0.abs());
        let stated = extended.or_else(|| times(actual.or(regular)?, pieces, 0));
        let stated = stated.ok_or("ExtendedAmount is missing: the line has no amount")?;
        let discount = discount_of(goods, pieces, currency)?;
        let (net, discount) = net_of(stated.abs(), discount, regular, actual, pieces);

        let returned = all_return || &*goods.name == "Return";
        let negative = stated < 0 || stated_quantity.0 < 0;
        let voided = item.flag("VoidFlag");
        let linked = goods.child("ItemLink").or_else(|| item.child("ItemLink")).is_some();
        let kind = match (voided, returned, negative) {
            // Some logs mark the line that was voided, others write a second one that takes it off.
            (true, false, false) if !linked => return Ok(None),
            (true, true, _) => return Err("is a voided return; such a line is not understood".to_owned()),
            (true, false, _) => Kind::Void,
            (false, true, _) | (false, false, true) => Kind::Return,
            (false, false, false) if is_gift_card(goods) => Kind::GiftCard,
            (false, false, false) => Kind::Sale,
        };
        let amount = if matches!(kind, Kind::Return | Kind::Void) { -net } else { net };
        let sku = goods.text_of("ItemID").or_else(|| goods.child("POSIdentity")?.text_of("POSItemID"));
        let sku = sku.ok_or("ItemID is missing: the line names no goods")?.to_owned();
        let original = goods.child("TransactionLink").and_then(|link| header.original_of(link));
        let mut line = Self {
            number,
            kind,
            sku,
            description: goods.text_of("Description").map(one_blank),
            quantity: pieces,
            unit_price: regular.or(actual).map(i64::abs),
            discount,
            amount,
            tax: 0,
            tax_code: None,
            tax_rate: None,
            states_tax: false,
            tax_included: None,
            taxed_by: marks(goods),
            undone: false,
            original: original.filter(|_| kind == Kind::Return),
            handle: goods.text_of("OperatorSequence").map(str::to_owned),
        };
        line.read_tax(goods, currency)?;
        Ok(Some(line))
    }

    fn read_tax(&mut self, goods: &Element, currency: Currency) -> Result<(), Problem> {
        self.tax_included =
            ["TaxIncludedInPriceFlag", "TaxIncludedInPrice"].iter().find_map(|name| goods.said(name));
        for tax in goods.all("Tax") {
            let Some(minor) = amount_of(tax, "Amount", currency)? else { continue };
            self.states_tax = true;
            self.tax += minor.abs() * self.amount.signum();
            self.note_rate(tax);
            self.tax_included = self.tax_included.or_else(|| tax.said("TaxIncludedInTaxableAmountFlag"));
        }
        Ok(())
    }

    /// Keeps the code and rate of a tax; of two taxes on one line, both codes.
    pub(super) fn note_rate(&mut self, tax: &Element) {
        let code = tax_id(tax).map(str::to_owned);
        match (&mut self.tax_code, code) {
            (Some(codes), Some(code)) => {
                codes.push('+');
                codes.push_str(&code);
                self.tax_rate = None;
            }
            (None, code) => {
                self.tax_code = code;
                self.tax_rate = tax.text_of_any(&["Percent", "TaxPercent"]).and_then(lawful_rate);
            }
            (Some(_), None) => self.tax_rate = None,
        }
    }

    pub(super) fn refers_to(&mut self, receipt: &str) {
        if self.kind == Kind::Return && self.original.is_none() {
            self.original = Some((receipt.to_owned(), None));
        }
    }

    /// Whether a price is the amount's reason; a deal of three for two, a tare or a bundle price is not.
    fn explained(&self) -> bool {
        let expected = self.unit_price.and_then(|price| times(price, self.quantity, self.discount));
        expected.is_some_and(|expected| (expected - self.amount.abs()).abs() <= 1)
    }

    /// The line in the form of CONTRACT section 2; of a refund, with positive amounts.
    pub(super) fn to_json(&self, refund: bool, tax_exclusive: bool) -> Value {
        let sign = if refund { -1 } else { 1 };
        let mut line = json!({
            "line": self.number,
            "sku": self.sku,
            "quantity": self.quantity.to_string(),
            "discount_minor": self.discount,
            "amount_minor": self.amount * sign,
            "tax_minor": self.tax * sign,
        });
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                line[name] = value;
            }
        };
        put("description", json!(self.description));
        put("unit_price_minor", json!(self.unit_price.filter(|_| self.explained())));
        put("tax_code", json!(self.tax_code));
        put("tax_rate", json!(self.tax_rate));
        put("tax_exclusive", if tax_exclusive { json!(true) } else { Value::Null });
        match self.kind {
            Kind::Sale => {}
            Kind::GiftCard => put("gift_card_sold", json!(true)),
            Kind::Void => put("line_void", json!(true)),
            Kind::Return if refund => {}
            Kind::Return => put("return_in_sale", json!(true)),
        }
        if let Some((receipt, number)) = &self.original {
            put("original", json!({"receipt": receipt}));
            put("original_line", json!(number));
        }
        line
    }
}

/// Finds for each void line the line that it takes off.
pub(super) fn pair_voids(lines: &mut [Goods]) {
    for at in 0..lines.len() {
        if lines[at].kind != Kind::Void {
            continue;
        }
        let void = lines[at].clone();
        let undoes = |line: &Goods| !line.undone && line.sku == void.sku && line.amount == -void.amount;
        if let Some(line) = lines[..at].iter_mut().rev().find(|line| undoes(line)) {
            line.undone = true;
            lines[at].undone = true;
        }
    }
}

/// Takes a reward off the line that it names, or gives the amount back for the whole basket.
pub(super) fn apply_reward(
    lines: &mut [Goods],
    reward: &Element,
    currency: Currency,
) -> Result<i64, Problem> {
    let minor = amount_of(reward, "ExtendedRewardAmount", currency)?;
    let minor = minor.ok_or("ExtendedRewardAmount is missing")?;
    let handle = reward.text_of("OperatorSequenceReference").filter(|handle| *handle != "0");
    let Some(handle) = handle else { return Ok(-minor) };
    let line = lines.iter_mut().find(|line| line.handle.as_deref() == Some(handle));
    let line = line.ok_or_else(|| format!("names line {handle} (OperatorSequence), which is not there"))?;
    take_off(line, -minor);
    Ok(0)
}

/// Shares what was taken off the whole basket out over its goods (LEDGER-RULES section 2.6).
pub(super) fn share_discount(lines: &mut [Goods], minor: i64) -> Result<(), Problem> {
    if minor == 0 {
        return Ok(());
    }
    let takes_part = |line: &Goods| !line.undone && matches!(line.kind, Kind::Sale | Kind::Void);
    let weights: Vec<i64> = lines.iter().map(|line| if takes_part(line) { line.amount } else { 0 }).collect();
    let shares = within("the discount on the basket", share(minor, &weights))?;
    for (line, share) in lines.iter_mut().zip(shares) {
        take_off(line, share);
    }
    Ok(())
}

fn take_off(line: &mut Goods, minor: i64) {
    line.amount -= minor;
    let back = matches!(line.kind, Kind::Return | Kind::Void);
    line.discount += if back { -minor } else { minor };
    if line.discount < 0 {
        // A surcharge: the price is no longer the reason of the amount.
        line.discount = 0;
        line.unit_price = None;
    }
}

/// The discount that a line states, without sign.
fn discount_of(goods: &Element, pieces: Quantity, currency: Currency) -> Result<i64, Problem> {
    let whole = amount_of(goods, "ExtendedDiscountAmount", currency)?.unwrap_or(0).abs();
    if whole != 0 {
        return Ok(whole);
    }
    let mut modified = 0_i64;
    for modifier in goods.all("RetailPriceModifier").filter(|modifier| !modifier.flag("VoidFlag")) {
        for amount in modifier.all("Amount") {
            let minor = within("RetailPriceModifier/Amount", amount_in(amount, currency))?.abs();
            match amount.attribute("Action").unwrap_or("Subtract") {
                "Subtract" => modified += minor,
                "Add" => modified -= minor,
                "Replace" => {}
                other => {
                    return Err(format!(
                        "RetailPriceModifier/Amount has the Action {other:?}; Add, Subtract or Replace is understood"
                    ));
                }
            }
        }
    }
    if modified != 0 {
        return Ok(modified);
    }
    let each = amount_of(goods, "DiscountAmount", currency)?.unwrap_or(0).abs();
    times(each, pieces, 0).ok_or_else(|| "DiscountAmount is out of range".to_owned())
}

/// Amount after discount, and discount. `ExtendedAmount` is after discount in some logs and before it in others; the
/// prices beside it tell which.
fn net_of(
    stated: i64,
    discount: i64,
    regular: Option<i64>,
    actual: Option<i64>,
    pieces: Quantity,
) -> (i64, i64) {
    let of = |price: Option<i64>| price.and_then(|price| times(price.abs(), pieces, 0));
    let before_discount = of(regular) == Some(stated) && of(actual) != Some(stated);
    if discount != 0 && before_discount {
        (stated - discount, discount.max(0))
    } else {
        (stated, discount.max(0))
    }
}

/// A unit price; fuel and the like are priced in tenths of a cent, which says nothing of the amount.
fn price_of(goods: &Element, name: &str, currency: Currency) -> Result<Option<i64>, Problem> {
    match goods.child(name).filter(|price| !price.text.is_empty()) {
        None => Ok(None),
        Some(price) => match amount_in(price, currency) {
            Ok(minor) => Ok(Some(minor)),
            Err(problem) if problem.contains("more decimals") => Ok(None),
            Err(problem) => within(name, Err(problem)),
        },
    }
}

fn is_gift_card(goods: &Element) -> bool {
    ["GiftCard", "GiftCertificate", "StoredValue"].iter().any(|name| {
        goods.attribute("ItemType").is_some_and(|kind| kind.ends_with(name)) || goods.child(name).is_some()
    })
}

/// Ids of the taxes that a line is marked with: `<Itemizers Tax1="true">`.
fn marks(goods: &Element) -> Vec<String> {
    let itemizers = goods.all("Itemizers").flat_map(|itemizers| &itemizers.attributes);
    itemizers
        .filter(|(_, value)| matches!(&**value, "true" | "1"))
        .filter_map(|(name, _)| name.strip_prefix("Tax").map(str::to_owned))
        .collect()
}

/// What a tax is called.
pub(super) fn tax_id(tax: &Element) -> Option<&str> {
    let attribute = tax.attribute("TaxID").or_else(|| tax.attribute("TaxGroupID"));
    attribute
        .or_else(|| tax.text_of_any(&["TaxRuleID", "TaxGroupID", "TaxAuthority"]))
        .filter(|id| !id.is_empty())
}

/// A rate that a law can state; `10.129` is the tax divided by the amount.
fn lawful_rate(text: &str) -> Option<String> {
    let text = text.trim();
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
    text.parse::<engine::money::TaxRate>().ok().map(|rate| rate.to_string())
}

fn one_blank(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
