//! Decoders of the node that somebody outside reaches: at the join desk, with a certificate, with a code typed in, with a
//! log of another POS.

use std::sync::{Arc, LazyLock};

use jiff::tz::TimeZone;
use node::identity::{
    Authority, Decide, Grant, HUBS_MAX, Holds, HubList, JoinCode, JoinDesk, JoinSecret, NodeKey, Papers, Refusal,
    Role, accept_reply, answer_renewal, ask_for_papers, ask_to_join, facts, verify_chain, verify_under,
};
use node::import::poslog::{Assumed, PosLog};
use node::import::{Origins, Own};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

/// A code as a person types it, and the text behind a right checksum.
pub fn join_code(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(code) = text.parse::<JoinCode>() {
        assert_eq!(code.to_string().parse(), Ok(code));
    }
}

/// The company behind the targets of this file; its keys differ from run to run, which no target looks at.
pub(crate) struct Company {
    pub(crate) authority: Arc<Authority>,
    pub(crate) till: NodeKey,
    pub(crate) leaf: Vec<u8>,
}

pub(crate) static COMPANY: LazyLock<Company> = LazyLock::new(|| {
    let authority = Arc::new(Authority::generate("Fuzzed Shops").expect("a company"));
    let till = NodeKey::from_seed(&[5; 32]);
    let leaf = authority.issue(&till.public(), "s1/till-1", Role::Till).expect("a certificate");
    Company { authority, till, leaf }
});

/// DER where a certificate belongs: alone, under the company, and beside its own certificate.
pub fn certificate(bytes: &[u8]) {
    let ca = COMPANY.authority.certificate();
    let _ = facts(bytes);
    let _ = verify_chain(bytes, bytes);
    let _ = verify_chain(&COMPANY.leaf, bytes);
    if let Ok(facts) = verify_chain(bytes, &ca) {
        assert_eq!(facts.public_key, COMPANY.till.public(), "only one certificate was issued");
    }
    let _ = verify_under(&COMPANY.leaf, &[bytes.to_vec(), ca.clone()], std::slice::from_ref(&ca));
    let _ = COMPANY.authority.standing(bytes, 1_800_000_000);
}

/// What arrives on the stream of a join, a renewal, or as their answers: the first byte says which.
pub fn join_desk(bytes: &[u8]) {
    let Some((which, said)) = bytes.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let (mut here, mut there) = tokio::io::duplex(1 << 20);
        // The frame's length is the fuzzer's in one of two cases; else what was said arrives whole.
        if which & 4 == 0 {
            let length = u32::try_from(said.len()).unwrap_or(u32::MAX);
            there.write_all(&length.to_le_bytes()).await.expect("a duplex takes it");
        }
        there.write_all(&said[..said.len().min(1 << 19)]).await.expect("a duplex takes it");
        there.shutdown().await.expect("a duplex ends");
        match which & 3 {
            0 => {
                let decide: Decide = Arc::new(|applicant| {
                    let known = applicant.secret == JoinSecret([1; 16]);
                    Box::pin(async move { if known { Ok(grant()) } else { Err(Refusal::Unknown) } })
                });
                let desk = JoinDesk::new(COMPANY.authority.clone(), [8; 32], decide);
                let _ = desk.serve(here, ([127, 0, 0, 1], 1).into()).await;
            }
            1 => {
                let _ = answer_renewal(
                    &mut here,
                    &COMPANY.authority,
                    &COMPANY.leaf,
                    1_800_000_000,
                    (&HubList::default(), std::time::Duration::from_secs(5)),
                    |_| None,
                )
                .await;
            }
            2 => {
                let code = JoinCode::with_secret(
                    "hub.example.com:7440".parse().expect("an address"),
                    COMPANY.authority.fingerprint(),
                    JoinSecret([1; 16]),
                );
                let key = NodeKey::from_seed(&[5; 32]);
                let joined = ask_to_join(&mut here, &code, &key, "till", &[8; 32]).await;
                assert!(joined.is_err(), "a certificate for this key was made out of nothing");
            }
            _ => {
                if let Ok(reply) = ask_for_papers(&mut here, &[7; 16], Holds::default()).await {
                    let ca = COMPANY.authority.certificate();
                    let present = Papers {
                        certificate: COMPANY.leaf.clone(),
                        chain: vec![ca.clone()],
                        trusted: vec![ca],
                    };
                    assert!(reply.hubs().len() <= HUBS_MAX);
                    let _ = accept_reply(&reply, &COMPANY.till.public(), &present);
                }
            }
        }
    });
}

fn grant() -> Grant {
    Grant {
        store: "s1".into(),
        terminal: "till-1".into(),
        incarnation: 1,
        time_zone: "Europe/London".into(),
        currency: "GBP".into(),
        extra: Vec::new(),
    }
}

/// A POSLog.
pub fn poslog(bytes: &[u8]) {
    let assumed = Assumed { zone: TimeZone::UTC, currency: "GBP".parse().ok(), workstation: None };
    let mut log = PosLog::new(bytes, assumed, 0);
    while let Ok(Some((_, step))) = log.step() {
        // What is told of it is told to people and to the till: both must be able to take it.
        let told = format!("{step:?}");
        assert!(told.len() < 64 << 20);
        if let node::import::Step::Transaction(fields) = step {
            let text = Value::Object(fields).to_string();
            let _ = engine::transaction::Draft::from_json(&text);
        }
    }
}

/// Lines of several tills taken into one log.
pub fn import_lines(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut origins = Origins::new(Own { store: "s1".into(), terminal: "till-1".into() });
    for (at, line) in text.lines().enumerate() {
        let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else { continue };
        if at % 4 == 3 {
            origins.note(&fields);
        } else if origins.take(&mut fields).is_ok() {
            assert!(!fields.contains_key("store") && !fields.contains_key("terminal"));
            let _ = engine::transaction::Draft::from_json(&Value::Object(fields).to_string());
        }
    }
}
