//! Stories of `import` against a stand-in of a till.

use serde_json::{Value, json};

use super::super::out::Page;
use super::super::stand_in::{Request, StandIn, response};
use super::*;

const SALE: &str = "<Transaction><RetailStoreID>9</RetailStoreID><WorkstationID>1</WorkstationID><SequenceNumber>NUMBER\
    </SequenceNumber><BusinessDayDate>2017-10-01</BusinessDayDate><EndDateTime>2017-10-01T10:00:00</EndDateTime>\
    <CurrencyCode>USD</CurrencyCode><RetailTransaction><LineItem><Sale><ItemID>A</ItemID><ExtendedAmount>5.00\
    </ExtendedAmount></Sale></LineItem><LineItem><Tender TenderType=\"Cash\"><Amount>PAID</Amount></Tender></LineItem>\
    </RetailTransaction></Transaction>";

fn sale(number: u32, paid: &str) -> String {
    SALE.replace("NUMBER", &number.to_string()).replace("PAID", paid)
}

/// A till that knows receipt 9.1.20171001.1 already, and was over 5.00.
fn till(request: &Request) -> Vec<u8> {
    if request.method == "GET" {
        return match request.path.as_str() {
            "/v1/status" => response(200, "application/json", r#"{"store":"s","terminal":"t"}"#),
            "/v1/transactions/9.1.20171001.1" => response(
                200,
                "application/json",
                r#"{"id":"x","kind":"sale","total_minor":500,"currency":"USD","lines":[{"line":1}],"rounding_minor":0,"tip_minor":0,
                    "tenders":[{"type":"card","amount_minor":500}]}"#,
            ),
            _ => {
                response(404, "application/problem+json", r#"{"title":"not found","detail":"holds no such"}"#)
            }
        };
    }
    let text = String::from_utf8(request.body.clone()).unwrap();
    let answers: String = text
        .lines()
        .map(|line| {
            let sent: Value = serde_json::from_str(line).unwrap();
            let mut answer = json!({"receipt": sent["receipt"], "id": "x", "seq": 1, "state": "saved"});
            if sent["receipt"] == "9.1.20171001.1" {
                answer["repeated"] = json!(true);
            }
            format!("{answer}\n")
        })
        .collect();
    response(200, "application/x-ndjson", &answers)
}

fn import(format: Format, text: &str, api: &str) -> (Result<(), Failure>, Vec<Value>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let import = Import {
        format,
        files: vec![file.path().to_owned()],
        take_all: format == Format::Ndjson,
        workstation: None,
        from: 1,
        time_zone: None,
        currency: None,
        at: Where { api: Some(api.to_owned()), ..Where::default() },
    };
    let page = Page::default();
    let result = import.run(&mut Out::to(page.clone(), true));
    (result, page.read().lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn answers_come_in_order_and_the_summary_counts_every_transaction_once() {
    let node = StandIn::serve(till);
    let control = "<Transaction><ControlTransaction><NoSale/></ControlTransaction></Transaction>";
    let log =
        format!("<POSLog>{}{control}{}\n{}</POSLog>", sale(1, "5.00"), sale(2, "4.00"), sale(3, "5.00"));
    let (result, answers) = import(Format::Poslog, &log, &node.api());
    assert_eq!(result.unwrap_err().code, 1);
    assert_eq!(answers[0]["receipt"], "9.1.20171001.1");
    assert_eq!((&answers[1]["receipt"], &answers[1]["transaction"]), (&json!("9.1.20171001.2"), &json!(3)));
    assert!(answers[1]["error"]["detail"].as_str().unwrap().contains("its tenders add up to 4.00"));
    assert_eq!(
        answers[3]["summary"],
        json!({"read": 4, "recorded": 1, "known": 1, "skipped": {"NoSale": 1}, "refused": 1})
    );
}

#[test]
fn a_log_that_breaks_off_leaves_what_came_before() {
    let node = StandIn::serve(till);
    let (result, answers) =
        import(Format::Poslog, &format!("<POSLog>{}<Trans", sale(7, "5.00")), &node.api());
    let failure = result.unwrap_err();
    assert_eq!((failure.code, answers.len()), (1, 2));
    assert!(failure.message.contains("what came before stands (1 transaction saved)"), "{failure}");
}

#[test]
fn a_till_that_goes_away_is_exit_3_and_says_how_to_go_on() {
    let mut asked = 0;
    let node = StandIn::serve(move |request| {
        asked += 1;
        if asked == 1 { till(request) } else { Vec::new() }
    });
    let log: String = (1..=200).map(|number| sale(number, "5.00")).collect();
    let (result, answers) = import(Format::Poslog, &format!("<POSLog>{log}</POSLog>"), &node.api());
    let failure = result.unwrap_err();
    assert_eq!(failure.code, 3);
    assert!(!answers.is_empty() && answers.len() <= PARCEL_ENTRIES);
    let next = format!("--from {} passes over them quickly", answers.len() + 1);
    assert!(
        failure.message.contains("Run the same import again to go on") && failure.message.contains(&next),
        "{failure}"
    );
}

#[test]
fn a_post_void_repeats_what_the_till_holds_and_one_of_nothing_is_refused() {
    let node = StandIn::serve(till);
    let void = |number: u32, of: u32| {
        let link = format!(
            "<TransactionLink ReasonCode=\"PostVoid\"><SequenceNumber>{of}</SequenceNumber><BusinessDayDate>2017-10-01</BusinessDayDate></TransactionLink>"
        );
        let body = sale(number, "5.00");
        let (head, _) = body.split_once("<RetailTransaction>").unwrap();
        format!("{head}<ControlTransaction><PostVoid>{link}</PostVoid></ControlTransaction></Transaction>")
    };
    let log = format!("<POSLog>{}{}{}</POSLog>", sale(1, "5.00"), void(2, 1), void(3, 9));
    let (result, answers) = import(Format::Poslog, &log, &node.api());
    assert_eq!(result.unwrap_err().code, 1);
    assert!(
        answers[2]["error"]["detail"]
            .as_str()
            .unwrap()
            .contains("cancels 9.1.20171001.9, which this till does not hold")
    );
    let sent = node.requests().into_iter().rev().find(|request| request.method == "POST").unwrap();
    let sent = sent.json();
    assert_eq!((&sent["kind"], &sent["original"]), (&json!("void"), &json!({"id": "x"})));
    assert_eq!(sent["tenders"][0]["status"], "mirror");
}

#[test]
fn lines_of_other_tills_are_taken_under_their_origin_and_nameless_ones_are_not() {
    let node = StandIn::serve(till);
    let lines =
        "{\"kind\":\"sale\",\"store\":\"s\",\"terminal\":\"u\",\"receipt\":\"R-1\"}\n{\"kind\":\"sale\"}\n";
    let (result, answers) = import(Format::Ndjson, lines, &node.api());
    assert_eq!(result.unwrap_err().code, 1);
    assert_eq!(answers[0]["receipt"], "s/u/R-1");
    assert_eq!(answers[1]["line"], 2);
    assert!(answers[1]["error"]["detail"].as_str().unwrap().starts_with("receipt: is missing"));
}

#[test]
fn flags_of_the_other_format_are_wrong_usage() {
    let import = Import {
        format: Format::Ndjson,
        files: vec!["-".into()],
        take_all: false,
        workstation: Some("1".into()),
        from: 1,
        time_zone: None,
        currency: None,
        at: Where { api: Some("http://127.0.0.1:9".into()), ..Where::default() },
    };
    assert_eq!(import.run(&mut Out::to(Page::default(), true)).unwrap_err().code, 2);
}
