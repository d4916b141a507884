//! Lines of several tills taken into one till's log: the origin goes from their fields into their receipt number, so
//! that receipts of two tills never collide, and what refers to a receipt is rewritten with it. It looks into nothing
//! else of a line.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use engine::transaction::mask_card_numbers;
use serde_json::{Map, Value};

/// Receipts whose till is remembered, for references that name a receipt alone. Older ones are looked up as they are.
const RECEIPTS_REMEMBERED: usize = 100_000;
/// Tills told apart; a company of more is split before it is imported.
const TILLS_REMEMBERED: usize = 10_000;

/// The till that takes everything in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Its store.
    pub store: String,
    /// Its name.
    pub terminal: String,
}

/// Rewrites line after line, in the order of the file.
pub struct Origins {
    own: Own,
    tills: Vec<(String, String)>,
    /// Which till gave a receipt of a store, and whether another gave the same number.
    receipts: HashMap<u64, (usize, bool)>,
    order: VecDeque<u64>,
}

/// A problem names the field first.
type Problem = String;

impl Origins {
    /// For the till `own`, whose own lines stay as they are.
    #[must_use]
    pub fn new(own: Own) -> Self {
        Self { own, tills: Vec::new(), receipts: HashMap::new(), order: VecDeque::new() }
    }

    /// Remembers a line that is passed over, because later ones may refer to it.
    pub fn note(&mut self, line: &Map<String, Value>) {
        if let Ok((store, terminal)) = self.origin_of(line) {
            self.remember(line, &store, &terminal);
        }
    }

    /// Takes a line over. One of the own till, or of none, keeps its number; its references are rewritten like others.
    ///
    /// # Errors
    /// A name or reference that cannot be rewritten; the message names the field.
    pub fn take(&mut self, line: &mut Map<String, Value>) -> Result<(), Problem> {
        let (store, terminal) = self.origin_of(line)?;
        self.remember(line, &store, &terminal);
        line.remove("store");
        line.remove("terminal");
        self.rewrite_references(line, &store, &terminal)?;
        for part in line.get_mut("lines").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(part) = part.as_object_mut() {
                self.rewrite_references(part, &store, &terminal)?;
            }
        }
        if !self.is_own(&store, &terminal) {
            for name in ["receipt", "idempotency_key"] {
                if let Some(Value::String(text)) = line.get_mut(name) {
                    *text = named(&store, &terminal, text);
                }
            }
        }
        Ok(())
    }

    fn is_own(&self, store: &str, terminal: &str) -> bool {
        store == self.own.store && terminal == self.own.terminal
    }

    /// Store and till of a line; what it does not say is this till's.
    fn origin_of(&self, line: &Map<String, Value>) -> Result<(String, String), Problem> {
        let named = |name: &str, own: &str| match line.get(name) {
            None | Some(Value::Null) => Ok(own.to_owned()),
            Some(Value::String(text)) if fits(text) => Ok(text.clone()),
            Some(other) => {
                let shown: String = other.to_string().chars().take(60).collect();
                Err(format!("{name}: {} names no {name}", mask_card_numbers(&shown)))
            }
        };
        Ok((named("store", &self.own.store)?, named("terminal", &self.own.terminal)?))
    }

    fn remember(&mut self, line: &Map<String, Value>, store: &str, terminal: &str) {
        let Some(receipt) = line.get("receipt").and_then(Value::as_str) else { return };
        let known = self.tills.iter().position(|till| till.0 == store && till.1 == terminal);
        let till = known.unwrap_or(self.tills.len());
        if known.is_none() {
            if till == TILLS_REMEMBERED {
                return;
            }
            self.tills.push((store.to_owned(), terminal.to_owned()));
        }
        // Found by the till's own name, then in its store, then in the company.
        for key in [key_of_till(store, terminal, receipt), key_of(store, receipt), key_of_any(receipt)] {
            match self.receipts.get_mut(&key) {
                Some((first, several)) => *several |= *first != till,
                None => {
                    self.receipts.insert(key, (till, false));
                    self.order.push_back(key);
                }
            }
        }
        while self.order.len() > 3 * RECEIPTS_REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.receipts.remove(&oldest);
            }
        }
    }

    fn rewrite_references(
        &self,
        fields: &mut Map<String, Value>,
        store: &str,
        terminal: &str,
    ) -> Result<(), Problem> {
        if let Some(Value::String(receipt)) = fields.get_mut("original_receipt") {
            *receipt = self.renamed("original_receipt", receipt, None, store, terminal)?;
        }
        if let Some(Value::Object(original)) = fields.get_mut("original") {
            let text = |name: &str| original.get(name).and_then(Value::as_str).map(str::to_owned);
            let (of_store, of_terminal) = (text("store"), text("terminal"));
            let foreign = of_store.as_deref().unwrap_or(store) != self.own.store
                || of_terminal.as_deref().unwrap_or(terminal) != self.own.terminal;
            match text("receipt") {
                Some(receipt) => {
                    let of_store = of_store.as_deref().unwrap_or(store);
                    let receipt =
                        self.renamed("original", &receipt, of_terminal.as_deref(), of_store, terminal)?;
                    // Ids and numbers count in the other log; the receipt is what both logs know.
                    for name in ["store", "terminal", "seq", "id"] {
                        original.remove(name);
                    }
                    original.insert("receipt".to_owned(), Value::String(receipt));
                }
                None if original.contains_key("seq") && foreign => {
                    return Err("original: its seq counts in another till's log; give its receipt".to_owned());
                }
                None => {}
            }
        }
        Ok(())
    }

    /// The number under which this till's log has a receipt.
    fn renamed(
        &self,
        field: &str,
        receipt: &str,
        of_terminal: Option<&str>,
        store: &str,
        terminal: &str,
    ) -> Result<String, Problem> {
        let of = |store: &str, terminal: &str| {
            if self.is_own(store, terminal) { receipt.to_owned() } else { named(store, terminal, receipt) }
        };
        if let Some(terminal) = of_terminal {
            return Ok(of(store, terminal));
        }
        if self.receipts.contains_key(&key_of_till(store, terminal, receipt)) {
            return Ok(of(store, terminal));
        }
        let in_store = self.receipts.get(&key_of(store, receipt));
        match in_store.or_else(|| self.receipts.get(&key_of_any(receipt))) {
            Some((_, true)) => Err(format!(
                "{field}: several tills gave receipt {}; give original with its store and terminal",
                mask_card_numbers(receipt)
            )),
            Some((till, false)) => Ok(of(&self.tills[*till].0, &self.tills[*till].1)),
            None => Ok(receipt.to_owned()),
        }
    }
}

/// Names of stores and tills hold no slash, so that different origins never make one number.
fn named(store: &str, terminal: &str, receipt: &str) -> String {
    format!("{store}/{terminal}/{receipt}")
}

/// Names of stores and tills, as the engine takes them.
fn fits(text: &str) -> bool {
    text.parse::<engine::ids::TerminalId>().is_ok()
}

fn key_of(store: &str, receipt: &str) -> u64 {
    hash(&("store", store, receipt))
}

fn key_of_any(receipt: &str) -> u64 {
    hash(&("any", receipt))
}

fn key_of_till(store: &str, terminal: &str, receipt: &str) -> u64 {
    hash(&("till", store, terminal, receipt))
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn origins() -> Origins {
        Origins::new(Own { store: "s1".into(), terminal: "t1".into() })
    }

    fn take(origins: &mut Origins, line: Value) -> Result<Value, Problem> {
        let Value::Object(mut line) = line else { panic!("an object") };
        origins.take(&mut line).map(|()| Value::Object(line))
    }

    #[test]
    fn the_same_receipt_of_two_tills_becomes_two_and_the_own_one_stays() {
        let mut origins = origins();
        let receipts: Vec<Value> = [("s1", "t1"), ("s1", "t2"), ("s2", "t1")]
            .map(|(store, terminal)| {
                let line =
                    json!({"store": store, "terminal": terminal, "receipt": "R-1", "idempotency_key": "k"});
                let taken = take(&mut origins, line).unwrap();
                assert!(taken.get("store").is_none() && taken.get("terminal").is_none());
                taken["receipt"].clone()
            })
            .into();
        assert_eq!(receipts, [json!("R-1"), json!("s1/t2/R-1"), json!("s2/t1/R-1")]);
    }

    #[test]
    fn a_reference_by_receipt_alone_goes_to_the_till_of_the_store_that_gave_it() {
        let mut origins = origins();
        take(&mut origins, json!({"store": "s1", "terminal": "t2", "receipt": "R-7"})).unwrap();
        let refund = json!({"store": "s1", "terminal": "t3", "receipt": "C-1", "original_receipt": "R-7",
            "lines": [{"original_receipt": "R-7", "original_line": 2}, {"original": {"terminal": "t1", "receipt": "R-9", "seq": 4}}]});
        let taken = take(&mut origins, refund).unwrap();
        assert_eq!(taken["original_receipt"], "s1/t2/R-7");
        assert_eq!(taken["lines"][0], json!({"original_receipt": "s1/t2/R-7", "original_line": 2}));
        assert_eq!(taken["lines"][1]["original"], json!({"receipt": "R-9"}), "the own till's");
        // A sale of another store is found where its number is the only one.
        let taken =
            take(&mut origins, json!({"store": "s2", "receipt": "C-3", "original_receipt": "R-7"})).unwrap();
        assert_eq!(taken["original_receipt"], "s1/t2/R-7");
        // A number that no line before has is looked up as it is.
        let taken = take(&mut origins, json!({"receipt": "C-2", "original_receipt": "R-0"})).unwrap();
        assert_eq!(taken["original_receipt"], "R-0");
    }

    #[test]
    fn a_reference_that_two_tills_could_mean_is_refused_unless_one_is_its_own() {
        let mut origins = origins();
        for till in ["t2", "t3"] {
            take(&mut origins, json!({"store": "s1", "terminal": till, "receipt": "R-1"})).unwrap();
        }
        let refund =
            |till: &str| json!({"store": "s1", "terminal": till, "receipt": "C", "original_receipt": "R-1"});
        assert!(take(&mut origins, refund("t9")).unwrap_err().starts_with("original_receipt: several tills"));
        assert_eq!(take(&mut origins, refund("t3")).unwrap()["original_receipt"], "s1/t3/R-1");
        let numbered = json!({"terminal": "t2", "receipt": "C-9", "original": {"terminal": "t2", "seq": 3}});
        assert!(take(&mut origins, numbered).unwrap_err().contains("give its receipt"));
    }

    #[test]
    fn names_that_are_none_are_refused_and_memory_has_its_limit() {
        let mut origins = origins();
        assert!(take(&mut origins, json!({"store": 7})).unwrap_err().starts_with("store: 7"));
        assert!(take(&mut origins, json!({"terminal": "a/b"})).is_err());
        for n in 0..=RECEIPTS_REMEMBERED {
            origins.note(json!({"terminal": "t2", "receipt": format!("R-{n}")}).as_object().unwrap());
        }
        assert_eq!(origins.receipts.len(), 3 * RECEIPTS_REMEMBERED);
        assert_eq!(origins.order.len(), 3 * RECEIPTS_REMEMBERED);
    }
}
