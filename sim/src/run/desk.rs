//! What people at the head office do: they revoke a till, decide a case, lock a period.

use engine::review::CaseState;
use engine::transaction::{Decision, DecisionAction, HubRecord, Lock};

use super::Run;

impl Run {
    pub(super) fn revoke(&mut self, till: &str) {
        if !self.world.hub_serves() || !self.revoked.insert(till.to_owned()) {
            return;
        }
        let log = self.world.nodes[till].identity().log.clone();
        let last_valid_seq = self.world.hub_node().replica().log_heads().get(&log).copied().unwrap_or(0);
        let record =
            HubRecord::Revoke { terminal: log.terminal, incarnation: Some(log.incarnation), last_valid_seq };
        if self.world.state(record).is_some() {
            self.truth.suspicious.insert(till.to_owned());
            self.strike("revoke");
        }
    }

    pub(super) fn decide(&mut self, draw: u64) {
        if !self.world.hub_serves() {
            return;
        }
        let hub = self.world.hub().to_owned();
        let replica = self.world.node(&hub).replica_mut();
        let open: Vec<_> =
            replica.books().cases().filter(|case| case.state == CaseState::Open).cloned().collect();
        let Some(case) = usize::try_from(draw % open.len().max(1) as u64).ok().and_then(|at| open.get(at))
        else {
            return;
        };
        let options = replica.options(case);
        let draw = draw / 7;
        let Some(option) =
            usize::try_from(draw % options.len().max(1) as u64).ok().and_then(|at| options.get(at))
        else {
            return;
        };
        let decision = Decision {
            number: replica.books().next_decision_number(),
            case_type: case.key.case_type.as_str().to_owned(),
            subject: case.key.subject.clone(),
            case_version: Some(case.version),
            member: option.choice.member,
            action: option.choice.action,
            parameter: (option.choice.action == DecisionAction::Classify)
                .then(|| "Expenses:Other".to_owned()),
            terminal: None,
            reviewer: "anna".to_owned(),
            approver: Some("bert".to_owned()),
            reason: "drawn".to_owned(),
        };
        if self.world.state(HubRecord::Decision(decision)).is_some() {
            self.truth.decided = true;
            self.strike("decide");
        }
    }

    pub(super) fn lock(&mut self) {
        if !self.world.hub_serves() {
            return;
        }
        let today = self.world.hub_node().clock.shows(self.world.now_ms).day();
        let books = self.world.hub_node().replica().books();
        if books.open_day().is_some_and(|open| open >= today) {
            return;
        }
        let lock = Lock { number: books.next_lock_number(), heads: books.lock_heads(today), open_day: today };
        if self.world.state(HubRecord::Lock(lock)).is_some() {
            self.truth.locked = true;
            self.strike("lock");
        }
    }
}
