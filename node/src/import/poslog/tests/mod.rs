//! Stories of POSLog transactions: what the log says, and what a till is asked to record.

mod hostile;

use std::io::{Cursor, Read};

use jiff::tz::TimeZone;
use serde_json::Value;

use super::*;

fn assumed() -> Assumed {
    Assumed { zone: TimeZone::UTC, currency: None, workstation: None }
}

fn steps_of(source: impl Read) -> (Vec<(Place, Step)>, Option<Broken>) {
    let mut log = PosLog::new(source, assumed(), 1);
    let mut steps = Vec::new();
    loop {
        match log.step() {
            Ok(Some(step)) => steps.push(step),
            Ok(None) => return (steps, None),
            Err(broken) => return (steps, Some(broken)),
        }
    }
}

fn log(transactions: &str) -> String {
    format!("<POSLog xmlns=\"urn:x\" xmlns:acs=\"urn:y\">{transactions}</POSLog>")
}

/// A transaction with a head like the sample's.
fn transaction(attributes: &str, body: &str) -> String {
    format!(
        "<Transaction {attributes}><RetailStoreID>9</RetailStoreID><WorkstationID>31</WorkstationID>\
         <SequenceNumber>7</SequenceNumber><BusinessDayDate>2017-10-01</BusinessDayDate>\
         <EndDateTime>2017-10-01T15:18:53</EndDateTime><OperatorID OperatorName=\"X\">94</OperatorID>\
         <CurrencyCode>USD</CurrencyCode>{body}</Transaction>"
    )
}

fn retail(items: &[&str], totals: &[(&str, &str)]) -> String {
    let items: String = items
        .iter()
        .enumerate()
        .map(|(at, item)| {
            let (flags, item) =
                item.strip_prefix('!').map_or(("", *item), |item| (" VoidFlag=\"true\"", item));
            format!("<LineItem{flags}><SequenceNumber>{}</SequenceNumber>{item}</LineItem>", at + 1)
        })
        .collect();
    let totals: String =
        totals.iter().map(|(kind, amount)| format!("<Total TotalType=\"{kind}\">{amount}</Total>")).collect();
    format!("<RetailTransaction>{items}{totals}</RetailTransaction>")
}

fn goods(name: &str, sku: &str, quantity: &str, price: &str, amount: &str) -> String {
    format!(
        "<{name}><ItemID>{sku}</ItemID><Description>{sku} &amp; co</Description>\
         <RegularSalesUnitPrice>{price}</RegularSalesUnitPrice><ExtendedAmount>{amount}</ExtendedAmount>\
         <Quantity>{quantity}</Quantity></{name}>"
    )
}

fn cash(amount: &str) -> String {
    format!("<Tender TenderType=\"Cash\"><Amount>{amount}</Amount></Tender>")
}

fn one(xml: &str) -> Step {
    let (mut steps, broken) = steps_of(Cursor::new(log(xml).into_bytes()));
    assert_eq!((steps.len(), broken), (1, None));
    steps.remove(0).1
}

fn fields(items: &[&str], totals: &[(&str, &str)]) -> Value {
    match one(&transaction("", &retail(items, totals))) {
        Step::Transaction(fields) => {
            let draft = engine::transaction::Draft::from_json(&Value::Object(fields.clone()).to_string());
            draft.unwrap().transaction.validate_capture(&engine::policy::Policy::default()).unwrap_or_else(
                |error| {
                    // The default policy takes any currency the company has; nothing else may be refused.
                    assert!(error.to_string().contains("not accepted"), "{error}");
                },
            );
            Value::Object(fields)
        }
        other => panic!("{other:?}"),
    }
}

fn problem(items: &[&str], totals: &[(&str, &str)]) -> String {
    match one(&transaction("", &retail(items, totals))) {
        Step::Refused { receipt, problem } => {
            assert_eq!(receipt.as_deref(), Some("9.31.20171001.7"));
            problem
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sale_of_weighed_goods_has_its_name_time_and_price() {
    let sale = fields(
        &[&goods("Sale", "A", "0.42", "2.99", "1.26"), &cash("1.26")],
        &[("TransactionGrandAmount", "1.26")],
    );
    assert_eq!(sale["receipt"], "9.31.20171001.7");
    assert_eq!(sale["idempotency_key"], "poslog:9.31.20171001.7");
    assert_eq!(
        (&sale["at"], &sale["business_day"]),
        (&json!("2017-10-01T15:18:53+00:00"), &json!("2017-10-01"))
    );
    assert_eq!(sale["operator"], "94", "the pseudonym, never the name");
    let line = &sale["lines"][0];
    assert_eq!(
        (&line["quantity"], &line["unit_price_minor"], &line["amount_minor"]),
        (&json!("0.42"), &json!(299), &json!(126))
    );
    assert_eq!(line["description"], "A & co");
}

#[test]
fn a_price_that_does_not_explain_the_amount_is_left_out_rather_than_a_discount_made_up() {
    let sale = fields(&[&goods("Sale", "A", "1", "6.00", "3.00"), &cash("3.00")], &[]);
    assert_eq!(
        (&sale["lines"][0]["unit_price_minor"], &sale["lines"][0]["discount_minor"]),
        (&Value::Null, &json!(0))
    );
}

#[test]
fn a_discount_is_read_whether_the_amount_is_before_or_after_it() {
    let modifier = "<RetailPriceModifier><Amount Action=\"Subtract\">1.00</Amount></RetailPriceModifier>";
    for (amount, paid) in [("9.00", "9.00"), ("10.00", "9.00")] {
        let sale =
            goods("Sale", "A", "1", "10.00", amount).replace("<Quantity>", &format!("{modifier}<Quantity>"));
        let sale = fields(&[&sale, &cash(paid)], &[("TransactionGrandAmount", "9.00")]);
        let line = &sale["lines"][0];
        assert_eq!(
            (&line["discount_minor"], &line["amount_minor"], &line["unit_price_minor"]),
            (&json!(100), &json!(900), &json!(1000))
        );
    }
}

#[test]
fn a_discount_on_the_basket_is_shared_out_by_largest_remainder() {
    let items = [goods("Sale", "A", "1", "1.00", "1.00"), goods("Sale", "B", "1", "2.00", "2.00")];
    let sale = fields(
        &[&items[0], &items[1], "<Discount><Amount>0.10</Amount></Discount>", &cash("2.90")],
        &[("TransactionGrandAmount", "2.90")],
    );
    let amounts: Vec<i64> =
        sale["lines"].as_array().unwrap().iter().map(|line| line["amount_minor"].as_i64().unwrap()).collect();
    assert_eq!(amounts, [97, 193]);
}

#[test]
fn tax_of_the_whole_lands_on_the_marked_lines_to_the_cent() {
    let marked = |sku: &str, amount: &str| {
        goods("Sale", sku, "1", amount, amount)
            .replace("</Sale>", "<acs:Itemizers Tax1=\"true\">1</acs:Itemizers></Sale>")
    };
    let tax = "<Tax acs:TaxID=\"1\"><TaxableAmount>3.00</TaxableAmount><Amount>0.25</Amount><Percent>8.333</Percent></Tax>";
    let items = [marked("A", "1.00"), goods("Sale", "B", "1", "5.00", "5.00"), marked("C", "2.00")];
    let totals = [("TransactionGrandAmount", "8.25"), ("TransactionTaxAmount", "0.25")];
    let sale = fields(&[&items[0], &items[1], tax, &items[2], &cash("8.25")], &totals);
    let taxes: Vec<i64> =
        sale["lines"].as_array().unwrap().iter().map(|line| line["tax_minor"].as_i64().unwrap()).collect();
    assert_eq!(taxes, [8, 0, 17]);
    assert_eq!(
        (&sale["lines"][0]["tax_exclusive"], &sale["lines"][0]["tax_code"]),
        (&json!(true), &json!("1"))
    );
    assert_eq!(sale["lines"][0]["tax_rate"], Value::Null, "8.333 is no rate of a law");
    assert_eq!((&sale["total_minor"], &sale["tax_total_minor"]), (&json!(825), &json!(25)));
}

#[test]
fn tax_in_the_price_is_told_by_the_total() {
    let taxed = goods("Sale", "A", "1", "12.00", "12.00")
        .replace("</Sale>", "<Tax TaxID=\"S\"><Amount>2.00</Amount><Percent>20.00</Percent></Tax></Sale>");
    let sale = fields(&[&taxed, &cash("12.00")], &[("TransactionGrandAmount", "12.00")]);
    let line = &sale["lines"][0];
    assert_eq!(
        (&line["tax_minor"], &line["tax_exclusive"], &line["tax_rate"]),
        (&json!(200), &Value::Null, &json!("20"))
    );
}

#[test]
fn a_voided_line_is_a_second_one_in_some_logs_and_the_marked_one_in_others() {
    let items = [goods("Sale", "A", "1", "5.00", "5.00"), goods("Sale", "B", "1", "1.00", "1.00")];
    let second = format!("!{}", goods("Sale", "A", "-1", "5.00", "-5.00"));
    let sale = fields(&[&items[0], &items[1], &second, &cash("1.00")], &[("TransactionGrandAmount", "1.00")]);
    assert_eq!(sale["lines"][2]["line_void"], true);
    assert_eq!(sale["lines"][2]["amount_minor"], -500);
    let marked = format!("!{}", items[0]);
    let sale = fields(&[&marked, &items[1], &cash("1.00")], &[("TransactionGrandAmount", "1.00")]);
    assert_eq!(sale["lines"].as_array().unwrap().len(), 1);
}

#[test]
fn change_is_netted_wherever_the_log_writes_it() {
    let sale = goods("Sale", "A", "1", "17.38", "17.38");
    let inside = "<Tender TenderType=\"Cash\"><Amount>20.00</Amount><TenderChange><Amount>2.62</Amount></TenderChange></Tender>";
    let apart = "<Tender TenderType=\"Cash\"><Amount>-2.62</Amount><TenderChange><Amount>-2.62</Amount></TenderChange></Tender>";
    let want = json!([{"type": "cash", "amount_minor": 1738, "tendered_minor": 2000, "change_minor": 262}]);
    assert_eq!(fields(&[&sale, inside], &[])["tenders"], want);
    assert_eq!(fields(&[&sale, &cash("20.00"), apart], &[])["tenders"], want);
}

#[test]
fn cash_back_leaves_the_drawer_and_stays_on_the_card() {
    let sale = goods("Sale", "A", "1", "5.58", "5.58");
    let card = "<Tender TenderType=\"CreditDebit\"><Amount>55.58</Amount><Cashback>50.00</Cashback></Tender>";
    let change = "<Tender TenderType=\"Cash\"><Amount>-50.00</Amount><TenderChange><Amount>-50.00</Amount></TenderChange></Tender>";
    let want = json!([{"type": "card", "amount_minor": 5558},
        {"type": "cash", "amount_minor": -5000, "tendered_minor": 0, "change_minor": 5000}]);
    let totals = [("TransactionGrandAmount", "5.58")];
    assert_eq!(fields(&[&sale, card, change], &totals)["tenders"], want);
    assert_eq!(fields(&[&sale, card], &totals)["tenders"], want, "said once is enough");
}

#[test]
fn a_card_keeps_its_last_four_digits_and_its_authorisation_and_waits_where_the_log_says_so() {
    let sale = goods("Sale", "A", "1", "5.00", "5.00");
    let card = |more: &str| {
        format!(
            "<Tender TenderType=\"CreditDebit\"><Amount>5.00</Amount><Authorization {more}><AuthorizationCode>77</AuthorizationCode>\
             <ReferenceNumber>344</ReferenceNumber></Authorization><CreditDebit CardType=\"Debit\">\
             <PrimaryAccountNumber>XXXXXXXXXXXX4242</PrimaryAccountNumber></CreditDebit></Tender>"
        )
    };
    let tender = fields(&[&sale, &card("HostAuthorized=\"true\"")], &[])["tenders"][0].clone();
    assert_eq!(
        tender,
        json!({"type": "card", "amount_minor": 500, "auth": "77/344", "card_brand": "Debit", "card_last4": "4242"})
    );
    for offline in
        ["HostAuthorized=\"false\"", "OnlineAuthorizationStatus=\"Offline\"", "ForceOnline=\"true\""]
    {
        let tender = fields(&[&sale, &card(offline)], &[])["tenders"][0].clone();
        assert_eq!(
            (&tender["status"], &tender["payment"]),
            (&json!("pending"), &json!("9.31.20171001.7/2")),
            "{offline}"
        );
    }
    let full = card("").replace("XXXXXXXXXXXX4242", "4242 4242 4242 4242");
    let problem = problem(&[&sale, &full], &[]);
    assert!(problem.contains("PrimaryAccountNumber holds what looks like a card number"), "{problem}");
    assert!(!problem.contains("4242"), "{problem}");
}

#[test]
fn a_return_names_its_sale_and_line_and_an_exchange_is_a_sale() {
    let link = "<TransactionLink ReasonCode=\"Return\"><WorkstationID>2</WorkstationID><SequenceNumber>5</SequenceNumber>\
        <BusinessDayDate>2017-09-30</BusinessDayDate><LineItemSequenceNumber>3</LineItemSequenceNumber></TransactionLink>";
    let back = goods("Return", "A", "1", "5.00", "5.00").replace("</Return>", &format!("{link}</Return>"));
    let refund = fields(&[&back, &cash("5.00")], &[("TransactionGrandAmount", "-5.00")]);
    assert_eq!(
        (&refund["kind"], &refund["total_minor"], &refund["tenders"][0]["amount_minor"]),
        (&json!("refund"), &json!(500), &json!(500))
    );
    assert_eq!(
        (&refund["lines"][0]["original"], &refund["lines"][0]["original_line"]),
        (&json!({"receipt": "9.2.20170930.5"}), &json!(3))
    );
    let new = goods("Sale", "B", "1", "8.00", "8.00");
    let exchange = fields(&[&back, &new, &cash("3.00")], &[("TransactionGrandAmount", "3.00")]);
    assert_eq!((&exchange["kind"], &exchange["lines"][0]["return_in_sale"]), (&json!("sale"), &json!(true)));
    assert_eq!(exchange["lines"][0]["amount_minor"], -500);
}

#[test]
fn a_post_void_is_sent_with_what_the_till_holds_of_its_original() {
    let link = "<TransactionLink ReasonCode=\"Voided\"><SequenceNumber>6</SequenceNumber><BusinessDayDate>2017-10-01</BusinessDayDate></TransactionLink>";
    let control =
        transaction("", &format!("<ControlTransaction><PostVoid>{link}</PostVoid></ControlTransaction>"));
    let flagged = transaction(
        "",
        &retail(
            &[&goods("Sale", "A", "1", "5.00", "5.00"), &cash("5.00")],
            &[("TransactionGrandAmount", "5.00")],
        )
        .replace("<RetailTransaction>", &format!("<RetailTransaction VoidFlag=\"true\">{link}")),
    );
    for (xml, total, repeats) in [(control, None, false), (flagged, Some(500), true)] {
        let Step::Void(void) = one(&xml) else { panic!("no void") };
        assert_eq!(
            (void.of.as_str(), void.total_minor, void.repeated.is_some()),
            ("9.31.20171001.6", total, repeats)
        );
        assert_eq!(void.fields["kind"], "void");
    }
}

#[test]
fn what_is_no_business_is_skipped_by_kind() {
    let sale = retail(&[&goods("Sale", "A", "1", "5.00", "5.00"), &cash("5.00")], &[]);
    let no_tender = retail(&[&goods("Sale", "A", "1", "5.00", "5.00")], &[]);
    let cases = [
        (
            transaction(
                "",
                "<ControlTransaction><ReasonCode>Valid</ReasonCode><OperatorSignOn/></ControlTransaction>",
            ),
            "OperatorSignOn",
        ),
        (transaction("", "<ControlTransaction><NoSale>2017</NoSale></ControlTransaction>"), "NoSale"),
        (
            transaction("", "<ControlTransaction><ReasonCode>Procedure 21</ReasonCode></ControlTransaction>"),
            "Procedure 21",
        ),
        (
            transaction(
                "",
                "<ControlTransaction><TillEOD><TotalAmount>7.00</TotalAmount></TillEOD></ControlTransaction>",
            ),
            "TillEOD",
        ),
        (transaction("TrainingModeFlag=\"true\"", &sale), "training mode"),
        (transaction("CancelFlag=\"true\"", &no_tender), "cancelled"),
        (
            transaction(
                "",
                &no_tender
                    .replace("<RetailTransaction", "<RetailTransaction TransactionStatus=\"Suspended\""),
            ),
            "suspended",
        ),
    ];
    for (xml, reason) in cases {
        assert_eq!(one(&xml), Step::Skipped(reason.to_owned()));
    }
    assert!(
        matches!(one(&transaction("CancelFlag=\"true\"", &sale)), Step::Refused { problem, .. } if problem.contains("cancelled, yet holds tenders"))
    );
}

#[test]
fn money_into_and_out_of_the_drawer_is_a_cash_movement() {
    let moved = "<TenderControlTransaction><PaidOut><Amount>12.00</Amount><Reason>milk</Reason></PaidOut></TenderControlTransaction>";
    let Step::Transaction(fields) = one(&transaction("", moved)) else { panic!("no movement") };
    assert_eq!(
        (&fields["movement"], &fields["amount_minor"], &fields["reason"]),
        (&json!("paid_out"), &json!(1_200), &json!("milk"))
    );
}

#[test]
fn nothing_is_lost_in_silence() {
    let sale = goods("Sale", "A", "1", "5.00", "5.00");
    let grand = [("TransactionGrandAmount", "5.00")];
    let cases: &[(&[&str], &str)] = &[
        (
            &[&sale, "<CarWash><WashAmount>5.00</WashAmount></CarWash>", &cash("5.00")],
            "CarWash/WashAmount holds money and is not understood",
        ),
        (
            &[&sale.replace("</Sale>", "<Deposit><Amount>1.00</Amount></Deposit></Sale>"), &cash("5.00")],
            "Sale/Deposit/Amount",
        ),
        (
            &[&sale, "<Tender TenderType=\"Shells\"><Amount>5.00</Amount></Tender>"],
            "TenderType \"Shells\" is not understood",
        ),
        (
            &[&sale.replace("5.00</Ext", "4.00</Ext"), &cash("5.00")],
            "its lines add up to 4.00, but TransactionGrandAmount is 5.00",
        ),
        (&[&sale, &cash("4.00")], "its tenders add up to 4.00, but its lines to 5.00"),
        (&[&sale, "<Tax><Amount>0.50</Amount></Tax>", &cash("5.00")], "TransactionTaxAmount"),
        (
            &[&sale.replace("5.00</Ext", "five</Ext"), &cash("5.00")],
            "ExtendedAmount: \"five\" is no amount of USD",
        ),
        (&[&sale.replace("<Quantity>1", "<Quantity>1e9"), &cash("5.00")], "Quantity: \"1e9\""),
        (
            &[&sale, "<Tender TenderType=\"Cash\"><Amount Currency=\"EUR\">5.00</Amount></Tender>"],
            "no rule converts currencies",
        ),
    ];
    for (items, want) in cases {
        let totals = if want.contains("TransactionTaxAmount") {
            [grand[0], ("TransactionTaxAmount", "0.00")].to_vec()
        } else {
            grand.to_vec()
        };
        let problem = problem(items, &totals);
        assert!(problem.contains(want), "{want}: {problem}");
    }
}

#[test]
fn every_transaction_of_the_sample_is_read_and_its_sums_are_those_of_the_log() {
    let file =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/poslog-ncr/POSLog.xml");
    let Ok(file) = std::fs::File::open(&file) else {
        eprintln!("skipped: {} is not here", file.display());
        return;
    };
    let (steps, broken) = steps_of(file);
    assert_eq!((steps.len(), broken), (51, None));
    let (mut total, mut tax, mut cash, mut card, mut sales) = (0, 0, 0, 0, 0);
    for (place, step) in steps {
        match step {
            Step::Transaction(sale) => {
                sales += 1;
                total += sale["total_minor"].as_i64().unwrap();
                tax += sale["tax_total_minor"].as_i64().unwrap();
                for tender in sale["tenders"].as_array().unwrap() {
                    let sum = if tender["type"] == "cash" { &mut cash } else { &mut card };
                    *sum += tender["amount_minor"].as_i64().unwrap();
                }
            }
            Step::Skipped(_) => {}
            other => panic!("{place}: {other:?}"),
        }
    }
    assert_eq!((sales, total, tax, cash, card), (42, 264_372, 5_715, 6_646, 257_726));
}

#[test]
fn transactions_before_from_are_passed_over_and_another_workstation_is_skipped() {
    let two = "<Transaction/><Transaction/>".to_owned()
        + &transaction("", "<ControlTransaction><NoSale/></ControlTransaction>");
    let mut passing = PosLog::new(Cursor::new(log(&two).into_bytes()), assumed(), 3);
    let (place, step) = passing.step().unwrap().unwrap();
    assert_eq!((place.transaction, step), (Some(3), Step::Skipped("NoSale".to_owned())));
    let only = Assumed { workstation: Some("2".to_owned()), ..assumed() };
    let mut other = PosLog::new(Cursor::new(log(&two).into_bytes()), only, 3);
    assert_eq!(other.step().unwrap().unwrap().1, Step::Skipped("another workstation".to_owned()));
}
