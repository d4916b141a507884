//! Taking a decision: found, permitted, recorded in the hub's log of the store, from where it replicates to the tills.
//! One at a time, so that each is judged by the case as the one before it left it. What an action does is the engine's.

use engine::ids::{RecordId, StoreId};
use engine::ledger::Effect;
use engine::replica::Replica;
use engine::review::Case;
use engine::transaction::{Decision, DecisionAction, HubRecord};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Hub, Person, Role};
use crate::error::Failure;
use crate::runtime::clock::{now_ms, rfc3339};
use crate::runtime::store::StoreHandle;
use crate::runtime::store::several::answers;

/// What a reviewer asks for.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecisionRequest {
    /// What to do: `approve`, `remove`, `over-short` …
    pub action: String,
    /// Why, in words.
    #[serde(default)]
    pub reason: String,
    /// One member, by id or receipt number; without it everybody who is held.
    pub member: Option<String>,
    /// The account (`classify`), from whom (`recover`), `cash` or `card` (`paid`, `paid-out`).
    pub parameter: Option<String>,
    /// The till whose drawer took or gave the cash (`paid`, `paid-out`).
    pub terminal: Option<String>,
    /// The version of the case that the reviewer looked at; refused if it has changed since.
    pub version: Option<String>,
    /// Token of the second approver, where the amount or a closed day asks for one.
    pub approver_token: Option<String>,
    /// Only say what it would do.
    #[serde(default)]
    pub dry_run: bool,
}

/// A decision as it was recorded, or tried.
#[derive(Debug, Clone)]
pub struct Decided {
    /// The store.
    pub store: StoreId,
    /// The decision.
    pub decision: Decision,
    /// Its record; none if it was only tried.
    pub record: Option<RecordId>,
    /// What it did, or would do.
    pub effect: Effect,
}

/// Why a decision was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotDecided {
    /// There is no such case (any more).
    NoCase(String),
    /// The case is another than the reviewer saw.
    Stale(String),
    /// Not this person, or not alone.
    NotAllowed(String),
    /// A field does not fit, or the rules do not offer it.
    Refused(String),
    /// The node cannot.
    Failed(crate::runtime::store::StoreError),
}

impl From<crate::runtime::store::StoreError> for NotDecided {
    fn from(error: crate::runtime::store::StoreError) -> Self {
        Self::Failed(error)
    }
}

impl Hub {
    /// The store that has a case, with the case.
    ///
    /// # Errors
    /// There is none of that id; says so if it was resolved.
    pub async fn find_case(&self, id: &str) -> Result<(StoreHandle, Case), NotDecided> {
        let (stores, mut refused) = (self.stores(), None);
        let asked: Vec<_> = stores
            .iter()
            .cloned()
            .map(|store| {
                let wanted = id.to_owned();
                async move { store.ask(move |replica| replica.books().case(&wanted).cloned()).await }
            })
            .collect();
        let mut answers = answers(asked);
        while let Some((at, answer)) = answers.recv().await {
            match answer {
                Ok(Some(case)) => return Ok((stores[at].clone(), case)),
                Ok(None) => {}
                Err(error) => refused = Some(error),
            }
        }
        // A store that did not answer may have it.
        if let Some(error) = refused {
            return Err(error.into());
        }
        let events = self.audit().read(0, usize::MAX);
        let mut known =
            events.iter().rev().filter(|event| event.event == "case" && event.detail.starts_with(id));
        Err(NotDecided::NoCase(match known.next() {
            Some(event) => format!(
                "case {id} is no more since {}: what it was about no longer holds ({}); nothing is left to decide",
                rfc3339(event.at_ms),
                event.detail
            ),
            None => format!("there is no case {id:?}; `tillsync cases` lists them"),
        }))
    }

    /// Takes a decision, or says what it would do.
    ///
    /// # Errors
    /// No such case, not permitted, or the storage failed.
    pub async fn decide_case(
        &self,
        id: &str,
        request: DecisionRequest,
        by: &Person,
    ) -> Result<Decided, NotDecided> {
        let _one_at_a_time = self.deciding.lock().await;
        let (store, case) = self.find_case(id).await?;
        let approver = self.second(&request, by)?;
        let mut decision = draft(&case, &request, by)?;
        decision.approver = approver;
        let looked_at = case.clone();
        let mut named = request.member.clone();
        let tried = store
            .ask(move |replica| {
                decision.member = named.take().map(|name| member(replica, &looked_at, &name)).transpose()?;
                decision.number = replica.books().next_decision_number();
                replica.books().permit(&looked_at, &decision).map_err(|refusal| match refusal {
                    engine::review::Refusal::Stale => NotDecided::Stale(refusal.to_string()),
                    engine::review::Refusal::OwnRecord(_)
                    | engine::review::Refusal::FourEyes { .. }
                    | engine::review::Refusal::RemoveAfterClose => {
                        NotDecided::NotAllowed(refusal.to_string())
                    }
                    _ => NotDecided::Refused(refusal.to_string()),
                })?;
                let effect = replica.effect_of(&decision);
                Ok::<_, NotDecided>((decision, effect))
            })
            .await?;
        let (decision, effect) = tried?;
        let store_name = store.store().clone();
        if request.dry_run {
            return Ok(Decided { store: store_name, decision, record: None, effect });
        }
        let receipt = format!("decision-{}", decision.number);
        let recorded = store.state(HubRecord::Decision(decision.clone()), receipt).await?;
        let second = decision.approver.as_ref().map_or_else(String::new, |second| format!(", with {second}"));
        let detail = format!(
            "{} {} on {}{second}: {}",
            case.id,
            decision.action.as_str(),
            case.about,
            decision.reason
        );
        self.audit.note(now_ms(), Some(store_name.as_str()), Some(by.name.clone()), "decision", detail);
        Ok(Decided { store: store_name, decision, record: Some(recorded.id), effect })
    }

    /// The second approver proves who they are by their own token.
    fn second(&self, request: &DecisionRequest, by: &Person) -> Result<Option<String>, NotDecided> {
        let Some(token) = &request.approver_token else { return Ok(None) };
        let second = self.who(token).filter(|second| second.role >= Role::Reviewer);
        let second = second.ok_or_else(|| {
            NotDecided::NotAllowed("the second approver's token is not that of a reviewer".to_owned())
        })?;
        if second.name == by.name {
            let message =
                format!("{} cannot be the second approver of {}'s own decision", second.name, by.name);
            return Err(NotDecided::NotAllowed(message));
        }
        Ok(Some(second.name))
    }
}

fn draft(case: &Case, request: &DecisionRequest, by: &Person) -> Result<Decision, NotDecided> {
    let refused = |field: &str, problem: String| NotDecided::Refused(format!("{field}: {problem}"));
    let action: DecisionAction = request.action.parse().map_err(|error| refused("action", error))?;
    let version = request.version.as_deref().map(str::parse::<RecordId>).transpose();
    let terminal = request.terminal.as_deref().map(str::parse).transpose();
    Ok(Decision {
        number: 0,
        case_type: case.key.case_type.as_str().to_owned(),
        subject: case.key.subject.clone(),
        case_version: Some(
            version.map_err(|error| refused("version", error.to_string()))?.unwrap_or(case.version),
        ),
        member: None,
        action,
        parameter: request.parameter.clone(),
        terminal: terminal.map_err(|error: engine::ids::BadName| refused("terminal", error.to_string()))?,
        reviewer: by.name.clone(),
        approver: None,
        reason: request.reason.trim().to_owned(),
    })
}

/// A member by its id, the beginning of it, or its receipt number.
fn member(replica: &Replica, case: &Case, name: &str) -> Result<RecordId, NotDecided> {
    let receipt = |id: &RecordId| replica.books().record(id).map(|record| record.transaction.receipt.clone());
    let by_receipt: Vec<&RecordId> =
        case.members.iter().filter(|id| receipt(id).as_deref() == Some(name)).collect();
    let by_id: Vec<&RecordId> =
        case.members.iter().filter(|id| name.len() >= 8 && id.to_string().starts_with(name)).collect();
    match if by_receipt.is_empty() { by_id } else { by_receipt }.as_slice() {
        [only] => Ok(**only),
        [] => Err(NotDecided::Refused(format!(
            "member: {name:?} is no member of the case; `tillsync case {}` lists them",
            case.id
        ))),
        _ => Err(NotDecided::Refused(format!("member: {name:?} means several members; give the id"))),
    }
}

impl From<NotDecided> for Failure {
    fn from(error: NotDecided) -> Self {
        match error {
            NotDecided::NoCase(text)
            | NotDecided::Stale(text)
            | NotDecided::NotAllowed(text)
            | NotDecided::Refused(text) => Self::refused(text),
            NotDecided::Failed(error) => Self::refused(error),
        }
    }
}
