//! How boards join: invites, names, certificates.

use orangery::ca::Ca;
use orangery::engine::{Joining, Refused, Renewing};
use orangery::sha256::digest;
use orangery_wire::rest::InviteRequest;
use orangery_wire::{Digest, NodeId, UnixTime};
use rcgen::KeyPair;

use super::Running;
use super::fixture::{csr, node};

/// Invites and joins, without HTTPS.
struct Enrolment {
    running: Running,
    ca: std::sync::Arc<Ca>,
}

impl Enrolment {
    fn start() -> Self {
        let running = Running::start();
        let ca = std::sync::Arc::new(Ca::create(running.clock.now()).unwrap());
        Self { running, ca }
    }

    async fn invite(&self, secret: &str, name: Option<&str>, uses: u32) -> Result<UnixTime, Refused> {
        let request = InviteRequest { name: name.map(node), expires_secs: 3_600, uses };
        self.running.engine.invite(digest(secret.as_bytes()), request).await
    }

    async fn join(&self, secret: &str, wish: Option<&str>, key: &KeyPair) -> Result<NodeId, Refused> {
        let (ca, csr) = (self.ca.clone(), csr(key));
        let joining = Joining {
            secret: digest(secret.as_bytes()),
            key: digest(key.public_key_raw()),
            wish: wish.map(str::to_owned),
            issue: Box::new(move |node, now| ca.issue_node(node, &csr, now).map_err(|error| error.to_string())),
        };
        self.running.engine.join(joining).await.map(|(node, _)| node)
    }
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

#[tokio::test]
async fn of_a_hundred_boards_with_one_token_exactly_one_joins() {
    let enrolment = Enrolment::start();
    enrolment.invite("secret", None, 1).await.unwrap();
    let keys: Vec<_> = (0..100).map(|_| key()).collect();
    let names: Vec<_> = (0..100).map(|n| format!("board-{n}")).collect();
    let joins = keys.iter().zip(&names).map(|(key, name)| enrolment.join("secret", Some(name), key));
    let joined = futures_util::future::join_all(joins).await;
    assert_eq!(joined.iter().filter(|joined| joined.is_ok()).count(), 1);
    assert_eq!(joined.iter().filter(|joined| **joined == Err(Refused::TokenUsed)).count(), 99);
    assert_eq!(enrolment.running.reader().read(|view| view.node_names()).unwrap().len(), 1);
}

#[tokio::test]
async fn a_board_whose_answer_was_lost_asks_again_with_its_key_and_nobody_else_can() {
    let enrolment = Enrolment::start();
    enrolment.invite("secret", Some("garage"), 1).await.unwrap();
    let (own, other) = (key(), key());
    assert_eq!(enrolment.join("secret", None, &own).await.unwrap(), node("garage"));
    assert_eq!(enrolment.join("secret", None, &own).await.unwrap(), node("garage"));
    assert_eq!(enrolment.join("secret", None, &other).await.unwrap_err(), Refused::TokenUsed);
    enrolment.running.engine.revoke(node("garage")).await.unwrap();
    assert_eq!(enrolment.join("secret", None, &own).await.unwrap_err(), Refused::TokenUsed, "revoked is revoked");
}

#[tokio::test]
async fn tokens_that_are_wrong_used_or_expired_and_names_that_are_taken_are_refused_with_their_code() {
    let enrolment = Enrolment::start();
    enrolment.invite("many", None, 3).await.unwrap();
    let code = |joined: Result<NodeId, Refused>| joined.unwrap_err().code();
    assert_eq!(code(enrolment.join("guess", Some("a"), &key()).await), "token_unknown");
    assert_eq!(enrolment.join("many", Some("Attic.local"), &key()).await.unwrap(), node("attic"));
    assert_eq!(code(enrolment.join("many", Some("attic"), &key()).await), "name_taken");
    assert_eq!(code(enrolment.join("many", Some("coordinator"), &key()).await), "name_reserved");
    assert_eq!(code(enrolment.join("many", Some("all"), &key()).await), "name_reserved");
    assert_eq!(code(enrolment.join("many", Some("no name!"), &key()).await), "name_invalid");
    assert_eq!(code(enrolment.join("many", None, &key()).await), "name_invalid");
    assert_eq!(
        enrolment.join("many", Some("cellar"), &key()).await.unwrap(),
        node("cellar"),
        "refusals use nothing up"
    );

    enrolment.running.engine.revoke(node("cellar")).await.unwrap();
    assert_eq!(code(enrolment.join("many", Some("cellar"), &key()).await), "name_revoked");
    let invited = async |name| enrolment.invite("x", name, 1).await.unwrap_err().code();
    assert_eq!(invited(Some("cellar")).await, "name_revoked");
    assert_eq!(invited(Some("attic")).await, "name_taken");
    assert_eq!(invited(Some("coordinator")).await, "name_reserved");

    enrolment.invite("named", Some("loft"), 1).await.unwrap();
    assert_eq!(enrolment.join("named", Some("shed"), &key()).await.unwrap(), node("loft"), "the invite names the node");
    assert_eq!(code(enrolment.join("named", None, &key()).await), "token_used");

    enrolment.running.clock.advance(3_600);
    assert_eq!(code(enrolment.join("many", Some("late"), &key()).await), "token_expired");
}

#[tokio::test]
async fn an_invite_that_makes_no_sense_is_refused() {
    let enrolment = Enrolment::start();
    for (expires_secs, uses, name) in
        [(0, 1, None), (30 * 86_400 + 1, 1, None), (60, 0, None), (60, 1_001, None), (60, 2, Some("garage"))]
    {
        let request = InviteRequest { name: name.map(node), expires_secs, uses };
        let refused = enrolment.running.engine.invite(Digest([1; 32]), request).await.unwrap_err();
        assert_eq!(refused.code(), "invite_invalid", "{expires_secs} {uses} {name:?}");
    }
}

#[tokio::test]
async fn a_signing_request_that_the_ca_refuses_uses_no_invite_up() {
    let enrolment = Enrolment::start();
    enrolment.invite("secret", Some("garage"), 1).await.unwrap();
    let broken = Joining {
        secret: digest(b"secret"),
        key: Digest([1; 32]),
        wish: None,
        issue: Box::new(|_, _| Err("its key is not ECDSA on P-256".into())),
    };
    let refused = enrolment.running.engine.join(broken).await.unwrap_err();
    assert_eq!(refused.code(), "request_invalid");
    assert_eq!(enrolment.join("secret", None, &key()).await.unwrap(), node("garage"));
}

#[tokio::test]
async fn a_certificate_is_renewed_for_a_node_that_is_not_revoked_even_if_the_database_does_not_know_it() {
    let enrolment = Enrolment::start();
    let renew = |key: &KeyPair| {
        let (ca, csr) = (enrolment.ca.clone(), csr(key));
        let issue = move |node: &NodeId, now| ca.issue_node(node, &csr, now).map_err(|error| error.to_string());
        let renewing = Renewing { node: node("garage"), key: digest(key.public_key_raw()), issue: Box::new(issue) };
        enrolment.running.engine.renew(renewing)
    };
    renew(&key()).await.unwrap();
    enrolment.running.engine.revoke(node("garage")).await.unwrap();
    assert_eq!(renew(&key()).await.unwrap_err(), Refused::Revoked { node: node("garage") });
}
