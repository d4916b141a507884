//! The story: a morning of trade, two cables pulled, the same sale voided on both cut tills, a refund beyond what was
//! sold, and the network coming back. Every figure is asked from the nodes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::Options;
use super::cable::Cable;
use super::cast::{Player, TillPlayer, until};
use crate::error::Failure;
use crate::{hub, terminal, verify};

const STORE: &str = "high-street";
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that goes away with the demo, unless the user named it.
struct Stage {
    dir: PathBuf,
    keep: bool,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Tells the whole story.
pub(super) fn tell(options: &Options) -> Result<(), Failure> {
    if options.tills < 3 {
        return Err(Failure::usage("the story needs at least 3 tills"));
    }
    let stage = Stage {
        dir: options
            .dir
            .clone()
            .unwrap_or_else(|| std::env::temp_dir().join(format!("tillsync-demo-{}", std::process::id()))),
        keep: options.dir.is_some() || options.serve,
    };
    println!("Tillsync demo: one hub, {} tills, store {STORE}, everything on this machine\n", options.tills);
    let (mut head_office, mut tills, token) = open_shop(&stage.dir, options.tills)?;
    let mut shop = Shop { receipts: 0, random: 0x7111_5714 };

    let morning = trade(&mut shop, &tills, options.transactions)?;
    until("the morning's receipts at the hub", PATIENCE, || nothing_waits(&tills))?;
    println!("Morning   {morning} sales rung on {} tills; the hub has every one of them.", tills.len());

    let cut: Vec<usize> = vec![1, 2];
    for at in &cut {
        tills[*at].cable.pull(true);
    }
    println!("Outage    the network of {} and {} is cut.", tills[1].name, tills[2].name);
    let (voided, over) = (first_receipt(&tills[0], 0)?, first_receipt(&tills[0], 1)?);
    let offline = trade(&mut shop, &tills, options.transactions / 2 + 3)?;
    tills[1].node.capture(&[void_of(&tills[1], &voided)?])?;
    tills[2].node.capture(&[void_of(&tills[2], &voided)?])?;
    tills[1].node.capture(&[refund_of(&tills[1], &over, 1)?])?;
    tills[2].node.capture(&[refund_of(&tills[2], &over, 2)?])?;
    println!(
        "          meanwhile {offline} more sales are rung; {} and {} both void receipt {voided},",
        tills[1].name, tills[2].name
    );
    println!(
        "          and refund 1 + 2 pieces of the 2 sold on receipt {over}. Neither can know of the other."
    );
    until("the cut tills offline", PATIENCE, || {
        cut.iter()
            .try_fold(true, |all, at| Ok(all && tills[*at].node.get("/v1/status")?["online"] == json!(false)))
    })?;
    for at in &cut {
        println!("          {}", what_waits(&tills[*at])?);
    }

    let waiting: u64 = cut.iter().map(|at| tills[*at].node.waiting()).sum::<Result<u64, _>>()?;
    for at in &cut {
        tills[*at].cable.pull(false);
    }
    let took = until("the drain", PATIENCE, || nothing_waits(&tills))?;
    println!(
        "Back      the cables are in again: {waiting} receipts reached the hub {} ms later,",
        took.as_millis()
    );
    println!("          finding the network again included.");
    same_books(&head_office, &tills)?;

    books(&head_office)?;
    cases(&head_office)?;
    if options.serve {
        println!("\nEverything keeps running; stop it with Ctrl-C. The console is at {}", head_office.api);
        println!("Log in there with this demo's token, {token}");
        for till in &tills {
            println!("The page of {} is at {}", till.name, till.node.api);
        }
        println!(
            "Look further:\n  tillsync cases --dir {0}\n  tillsync ledger journal --dir {0}\n  tillsync audit --dir {0}",
            head_office.dir.display()
        );
        for till in &tills {
            println!("  tillsync status --dir {}", till.node.dir.display());
        }
        head_office.wait();
        return Ok(());
    }
    power_cut(&mut head_office, &mut tills)?;
    println!(
        "\nLook further: `tillsync demo --serve` keeps it running; `tillsync --help` lists what you can ask."
    );
    Ok(())
}

fn open_shop(dir: &Path, count: usize) -> Result<(Player, Vec<TillPlayer>, String), Failure> {
    let hub_dir = dir.join("hub");
    std::fs::create_dir_all(&hub_dir)?;
    let made = hub::init(&hub_dir, "The Corner Shop Ltd", "GBP", "Europe/London")?;
    let arguments = ["hub", "run", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let (head_office, quic) = Player::start(&hub_dir, &arguments)?;
    let quic = quic.ok_or_else(|| Failure::refused("the hub did not say where it listens"))?;
    let mut tills = Vec::new();
    for number in 1..=count {
        let name = format!("till-{number:02}");
        let till_dir = dir.join(&name);
        std::fs::create_dir_all(&till_dir)?;
        let cable = Cable::lay(quic)?;
        let code = head_office.post("/v1/enrolments", &json!({"store": STORE, "terminal": name}))?;
        let code = code["code"].as_str().unwrap_or_default().to_owned();
        terminal::join(&till_dir, &code, Some(&cable.address().to_string()))?;
        let (node, _) = Player::start(&till_dir, &["terminal", "run", "--http", "127.0.0.1:0"])?;
        tills.push(TillPlayer { name, cable, node });
    }
    until("every till online", PATIENCE, || {
        tills
            .iter()
            .try_fold(true, |all, till| Ok(all && till.node.get("/v1/status")?["online"] == json!(true)))
    })?;
    Ok((head_office, tills, made.token))
}

/// What the shop sells, and how many receipts there are.
struct Shop {
    receipts: u64,
    random: u64,
}

impl Shop {
    fn below(&mut self, limit: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % limit
    }

    fn sale(&mut self, quantity: u64, price: u64) -> Value {
        const GOODS: [(&str, &str); 6] = [
            ("85123A", "Lantern"),
            ("22752", "Nesting boxes"),
            ("84406B", "Coat hanger"),
            ("21730", "T-light holder"),
            ("22633", "Hand warmer"),
            ("48187", "Doormat"),
        ];
        self.receipts += 1;
        let goods = GOODS[usize::try_from(self.below(6)).unwrap_or(0)];
        let amount = quantity * price;
        // 20 % inside the price, rounded half up.
        let tax = (2 * amount * 2_000 + 12_000) / 24_000;
        let tender = if self.below(2) == 0 { "cash" } else { "card" };
        json!({
            "kind": "sale", "receipt": format!("R-{}", 1_000 + self.receipts), "currency": "GBP",
            "lines": [{"line": 1, "sku": goods.0, "description": goods.1, "quantity": quantity.to_string(),
                "unit_price_minor": price, "amount_minor": amount, "tax_minor": tax, "tax_code": "S", "tax_rate": "20"}],
            "tenders": [{"type": tender, "amount_minor": amount}],
        })
    }
}

fn trade(shop: &mut Shop, tills: &[TillPlayer], sales: usize) -> Result<usize, Failure> {
    for (at, till) in tills.iter().enumerate() {
        let own: Vec<Value> = (at..sales)
            .step_by(tills.len())
            .map(|_| {
                let price = 199 + 50 * shop.below(40);
                shop.sale(2, price)
            })
            .collect();
        till.node.capture(&own)?;
    }
    Ok(sales)
}

/// The receipt that a till rang as its n-th.
fn first_receipt(till: &TillPlayer, nth: u64) -> Result<String, Failure> {
    let receipt = format!("R-{}", 1_001 + nth);
    till.node.get(&format!("/v1/transactions/{receipt}"))?;
    Ok(receipt)
}

fn void_of(till: &TillPlayer, receipt: &str) -> Result<Value, Failure> {
    let sale = till.node.get(&format!("/v1/transactions/{receipt}"))?;
    Ok(json!({
        "kind": "void", "receipt": format!("V-{}", till.name), "currency": sale["currency"], "reverses": "sale",
        "original_receipt": receipt, "reason": "rung twice", "lines": sale["lines"], "tenders": sale["tenders"],
    }))
}

fn refund_of(till: &TillPlayer, receipt: &str, pieces: i64) -> Result<Value, Failure> {
    let sale = till.node.get(&format!("/v1/transactions/{receipt}"))?;
    let line = &sale["lines"][0];
    let share = |field: &str| line[field].as_i64().unwrap_or(0) * pieces / 2;
    Ok(json!({
        "kind": "refund", "receipt": format!("F-{}", till.name), "currency": sale["currency"], "original_receipt": receipt,
        "reason": "does not fit", "approver": "manager",
        "lines": [{"line": 1, "sku": line["sku"], "quantity": pieces.to_string(), "amount_minor": share("amount_minor"),
            "tax_minor": share("tax_minor"), "tax_code": "S", "tax_rate": "20", "original_line": 1}],
        "tenders": [{"type": sale["tenders"][0]["type"], "amount_minor": share("amount_minor")}],
    }))
}

fn nothing_waits(tills: &[TillPlayer]) -> Result<bool, Failure> {
    tills.iter().try_fold(true, |all, till| Ok(all && till.node.waiting()? == 0))
}

fn what_waits(till: &TillPlayer) -> Result<String, Failure> {
    let status = till.node.get("/v1/status")?;
    let waiting = &status["waiting"];
    let value = waiting["value_minor"]["GBP"].as_i64().unwrap_or(0);
    Ok(format!(
        "{}: {} receipts wait, worth GBP {}; the hub has everything up to {}.",
        till.name,
        waiting["count"],
        pounds(value),
        status["at_hub_through"]["receipt"].as_str().unwrap_or("nothing yet"),
    ))
}

/// The hub's books and each till's are the same, by hash.
fn same_books(head_office: &Player, tills: &[TillPlayer]) -> Result<(), Failure> {
    until("the same books on every node", PATIENCE, || {
        let stores = head_office.get("/v1/stores")?;
        let hub = &stores[0]["view_hash"];
        tills.iter().try_fold(true, |all, till| Ok(all && till.node.get("/v1/status")?["view_hash"] == *hub))
    })?;
    println!("          The hub and all {} tills hold the same books (equal hashes).", tills.len());
    Ok(())
}

fn books(head_office: &Player) -> Result<(), Failure> {
    let trial = head_office.get("/v1/ledger/trial-balance")?;
    println!("\nBooks");
    for (currency, row) in trial["currencies"].as_object().into_iter().flatten() {
        let minor = |field: &str| pounds(row[field].as_i64().unwrap_or(0));
        println!(
            "  trial balance {currency}: debits {}, credits {}, difference {}",
            minor("debits_minor"),
            minor("credits_minor"),
            minor("difference_minor")
        );
    }
    let balances = head_office.get("/v1/ledger/balances")?;
    for (account, minor) in balances["balances"].as_object().into_iter().flatten() {
        println!("  {account:<44} {:>12}", pounds(minor.as_i64().unwrap_or(0)));
    }
    let suspense: i64 = balances["balances"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(account, _)| account.starts_with("Assets:Suspense"))
        .filter_map(|(_, minor)| minor.as_i64())
        .sum();
    println!("  in suspense, until a person decides: GBP {}", pounds(suspense));
    Ok(())
}

fn cases(head_office: &Player) -> Result<(), Failure> {
    let cases = head_office.get("/v1/cases?state=open")?;
    println!("\nFor a person to judge");
    for case in cases.as_array().into_iter().flatten() {
        let verdict = match case["verdict"].as_str() {
            Some("concurrent") => "neither till could know of the other",
            Some("knowing") => "the later till had seen the earlier one",
            _ => "",
        };
        println!(
            "  {} {}: {}",
            case["type"].as_str().unwrap_or(""),
            case["about"].as_str().unwrap_or(""),
            verdict
        );
        for member in case["members"].as_array().into_iter().flatten() {
            let held = member["held"]
                .as_str()
                .map_or_else(|| "posted".to_owned(), |reason| format!("held: {reason}"));
            let word = |field: &str| member[field].as_str().unwrap_or("").to_owned();
            println!("    {:<7} {:<12} {:<8} {held}", word("kind"), word("receipt"), word("terminal"));
        }
    }
    Ok(())
}

/// Ends every process without warning and checks what is on the disks.
fn power_cut(head_office: &mut Player, tills: &mut [TillPlayer]) -> Result<(), Failure> {
    println!("\nPower cut  every process is killed; the disks are checked:");
    head_office.kill();
    let mut dirs = vec![head_office.dir.clone()];
    for till in tills.iter_mut() {
        till.node.kill();
        dirs.push(till.node.dir.clone());
    }
    for dir in dirs {
        let report = verify::verify(&dir)?;
        let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        println!(
            "  {name:<8} {} records, {} batches: {}",
            report["checked"]["records"],
            report["checked"]["batches"],
            if report["ok"] == json!(true) { "nothing missing, nothing changed" } else { "DAMAGED" }
        );
        if report["ok"] != json!(true) {
            return Err(Failure::untrue(format!("{name}: {}", report["problems"])));
        }
    }
    Ok(())
}

fn pounds(minor: i64) -> String {
    let sign = if minor < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", minor.abs() / 100, minor.abs() % 100)
}
