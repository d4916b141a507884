//! Names of accounts for programs that are particular about them. A name, once given, stays: it depends only on the
//! accounts of earlier batches and of this one, in their order, never on what comes later.

use std::collections::{BTreeMap, BTreeSet};

use engine::ledger::Account;

/// How a program wants its accounts named.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The name that an account has where nothing clashes.
    pub plain: fn(&Account) -> String,
    /// Capital and small letters are the same.
    pub fold: bool,
    /// An account with postings has no accounts below it.
    pub leaves: bool,
}

/// The names given.
#[derive(Debug, Clone, Default)]
pub struct Names(BTreeMap<Account, String>);

impl Names {
    /// Names accounts in their order; the first to ask for a name has it.
    #[must_use]
    pub fn give<'a>(rules: Rules, accounts: impl Iterator<Item = &'a Account>) -> Self {
        let (mut given, mut taken) = (BTreeMap::new(), BTreeSet::new());
        for account in accounts {
            if given.contains_key(account) {
                continue;
            }
            let mut name = (rules.plain)(account);
            if rules.leaves {
                name = leaf(&name, &taken);
            }
            let key = |name: &str| if rules.fold { name.to_lowercase() } else { name.to_owned() };
            if taken.contains(&key(&name)) {
                let hash = blake3::hash(account.to_string().as_bytes()).to_hex();
                name = format!("{name}-{}", &hash[..8]);
            }
            taken.insert(key(&name));
            given.insert(account.clone(), name);
        }
        Self(given)
    }

    /// The name of an account.
    #[must_use]
    pub fn of(&self, account: &Account) -> String {
        self.0.get(account).cloned().unwrap_or_else(|| account.to_string())
    }
}

/// The name moved so that nothing with postings stands above or below it.
fn leaf(name: &str, taken: &BTreeSet<String>) -> String {
    let mut name = name.to_owned();
    let colons: Vec<usize> = name.match_indices(':').map(|(at, _)| at).collect();
    for at in colons {
        if taken.contains(&name[..at]) {
            name.replace_range(at..=at, "-");
        }
    }
    let is_above = |name: &str| {
        let below = format!("{name}:");
        taken.range(below.clone()..).next().is_some_and(|taken| taken.starts_with(&below))
    };
    while is_above(&name) {
        name.push_str(":Other");
    }
    name
}

/// The account's own name. A tax code is free text: what could end a name, or make a level of it, becomes a dash.
#[must_use]
pub fn plain(account: &Account) -> String {
    match account {
        Account::SalesTax(Some(code)) => {
            let kept = |c: char| if c.is_alphanumeric() || "-_.%+".contains(c) { c } else { '-' };
            format!("Liabilities:Sales-Tax:{}", code.chars().map(kept).collect::<String>())
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { plain, fold: false, leaves: false };

    fn accounts(names: &[&str]) -> Vec<Account> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn a_clash_is_settled_in_favour_of_the_earlier() {
        let both = accounts(&["Assets:Cash:Drawer:till-1", "Assets:Cash:Drawer:TILL-1"]);
        let fold = Rules { fold: true, ..RULES };
        let names = Names::give(fold, both.iter());
        assert_eq!(names.of(&both[0]), "Assets:Cash:Drawer:till-1");
        assert!(names.of(&both[1]).starts_with("Assets:Cash:Drawer:TILL-1-"));
        let other_way = Names::give(fold, both.iter().rev());
        assert_eq!(other_way.of(&both[1]), "Assets:Cash:Drawer:TILL-1");
        assert_eq!(Names::give(RULES, both.iter()).of(&both[1]), "Assets:Cash:Drawer:TILL-1");
    }

    #[test]
    fn leaves_stay_leaves_whichever_comes_first() {
        let both = accounts(&["Expenses:Petty-Cash", "Expenses:Petty-Cash:Tea"]);
        let leaves = Rules { leaves: true, ..RULES };
        let names = Names::give(leaves, both.iter());
        assert_eq!(names.of(&both[1]), "Expenses:Petty-Cash-Tea");
        let names = Names::give(leaves, both.iter().rev());
        assert_eq!(names.of(&both[0]), "Expenses:Petty-Cash:Other");
    }

    #[test]
    fn a_tax_code_cannot_end_its_name_or_open_a_level() {
        let strange = [Account::tax(Some("20%  reduced; EU:x")), Account::tax(Some("20%  reduced; EU-x"))];
        let names = Names::give(RULES, strange.iter());
        assert_eq!(names.of(&strange[0]), "Liabilities:Sales-Tax:20%--reduced--EU-x");
        assert_ne!(names.of(&strange[0]), names.of(&strange[1]));
    }
}
