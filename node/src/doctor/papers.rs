//! Certificates: whether a till's belongs to its key and its company and how long it lives, whether the hub's authority
//! is whole.

use std::path::Path;

use super::{Finding, age};
use crate::hub::HubConfig;
use crate::identity::{
    Authority, BACKDATE_SECONDS, CertificateFacts, Enrolment, Identity, NodeKey, Terms, system_seconds,
};

/// A till's certificate; its identity, if it holds together.
pub(super) fn of_till(dir: &Path, found: &mut Vec<Finding>) -> Option<(Enrolment, Identity)> {
    let enrolment = match Enrolment::load(dir) {
        Ok(Some(enrolment)) => enrolment,
        Ok(None) => return None,
        Err(error) => {
            found.push(Finding::of_error("certificate", &error));
            return None;
        }
    };
    let key = match NodeKey::load(dir) {
        Ok(Some(key)) => key,
        Ok(None) => {
            found.push(Finding::wrong(
                "certificate",
                "the till's key (identity/node.key) is missing",
                "restore the directory from a backup; without one, keep it, revoke the till and enrol it anew in an \
                 empty directory",
            ));
            return None;
        }
        Err(error) => {
            found.push(Finding::of_error("certificate", &error));
            return None;
        }
    };
    match enrolment.identity(key) {
        Ok(identity) => {
            found.push(life(&identity.facts(), system_seconds()));
            Some((enrolment, identity))
        }
        Err(error) => {
            found.push(Finding::of_error("certificate", &error));
            None
        }
    }
}

/// Where a certificate is in its life. The hub renews it after two thirds, by itself.
fn life(facts: &CertificateFacts, now: u64) -> Finding {
    let issued = facts.not_before.saturating_add(BACKDATE_SECONDS);
    let lives = facts.not_after.saturating_sub(issued);
    let due = issued.saturating_add(lives / 3 * 2);
    let grace = Terms::default().grace_seconds;
    if now < facts.not_before {
        return Finding::wrong(
            "certificate",
            format!("it begins {} from now, so this machine's clock is wrong", age(facts.not_before - now)),
            "set the clock and keep it right by network time (timedatectl set-ntp true)",
        );
    }
    if now >= facts.not_after.saturating_add(grace) {
        return Finding::wrong(
            "certificate",
            format!("it ended {} ago, too long for the hub to renew it", age(now - facts.not_after)),
            "check this machine's clock; if that is right, keep the directory, and enrol the till anew in an empty one",
        );
    }
    if now >= facts.not_after {
        return Finding::note(
            "certificate",
            format!("it ended {} ago", age(now - facts.not_after)),
            "it renews itself as soon as the hub is reached; check this machine's clock if it does not",
        );
    }
    let left = age(facts.not_after - now);
    if now >= due {
        return Finding::note(
            "certificate",
            format!("it has been due for renewal for {} and ends in {left}", age(now - due)),
            "it renews itself as soon as the hub is reached",
        );
    }
    Finding::well(
        "certificate",
        format!(
            "of {}, belongs to the key, ends in {left}; renewal is due in {}",
            facts.name,
            age(due - now)
        ),
    )
}

/// The hub's authority and key.
pub(super) fn of_hub(dir: &Path, found: &mut Vec<Finding>) {
    let config = match HubConfig::load(dir) {
        Ok(config) => config,
        Err(error) => return found.push(Finding::of_error("certificate", &error)),
    };
    let restore = "restore it from a backup; the company's tills trust this one only";
    let key = match NodeKey::load(dir) {
        Ok(Some(key)) => key,
        Ok(None) => {
            let text = "the hub's key (identity/node.key) is missing";
            return found.push(Finding::wrong("certificate", text, restore));
        }
        Err(error) => return found.push(Finding::of_error("certificate", &error)),
    };
    match Authority::load(dir) {
        Ok(Some(authority)) => match authority.on_terms(config.certificates).hub_identity(key) {
            Ok(_) => found.push(Finding::well(
                "certificate",
                format!(
                    "the authority of {} is whole and vouches for the hub's key; tills' certificates live {}",
                    config.company,
                    age(config.certificates.life_seconds)
                ),
            )),
            Err(error) => found.push(Finding::of_error("certificate", &error)),
        },
        Ok(None) => {
            found.push(Finding::wrong("certificate", "the certificate authority is missing", restore));
        }
        Err(error) => found.push(Finding::of_error("certificate", &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use crate::identity::Role;

    #[test]
    fn a_certificate_is_told_by_where_it_is_in_its_life() {
        let day = 86_400;
        let issued = 1_000 * day;
        let facts = CertificateFacts {
            public_key: [1; 32],
            role: Role::Till,
            name: "S/T".into(),
            not_before: issued - BACKDATE_SECONDS,
            not_after: issued + 30 * day,
        };
        let at = |days: u64| life(&facts, days * day);
        let table = [
            (900, State::Wrong, "clock is wrong"),
            (1_001, State::Well, "renewal is due in 19 days"),
            (1_021, State::Note, "due for renewal for 24 hours and ends in 9 days"),
            (1_035, State::Note, "ended 5 days ago"),
            (1_500, State::Wrong, "too long for the hub"),
        ];
        for (days, state, words) in table {
            let finding = at(days);
            assert_eq!(finding.state, state, "{finding:?}");
            assert!(finding.found.contains(words), "{finding:?}");
        }
    }
}
