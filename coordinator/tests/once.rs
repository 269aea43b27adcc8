//! Requests that come again, because their answer was lost, are done once.

#![allow(clippy::unwrap_used)] // A test stops at the first surprise.

mod fixture;

use fixture::{Fixture, Http, code_of};
use orangery_wire::rest::{InviteRequest, InviteResponse, NodeView, Role};

async fn invite(http: &Http, key: &str, node: &str) -> reqwest::Response {
    let asked = InviteRequest { name: Some(node.parse().unwrap()), expires_secs: 600, uses: 1 };
    let post = http.request(reqwest::Method::POST, "/v1/invites").header("Idempotency-Key", key);
    post.json(&asked).send().await.unwrap()
}

#[tokio::test]
async fn a_request_that_comes_again_with_its_key_is_done_once_and_gets_the_same_answer() {
    let fixture = Fixture::start().await;
    let operator = fixture.operator();
    let (one, two) = tokio::join!(invite(&operator, "one", "attic"), invite(&operator, "one", "attic"));
    let mut secrets = Vec::new();
    for answer in [one, two, invite(&operator, "one", "attic").await] {
        // Of two at the same time one may be told that the other is being done.
        if answer.status() == 409 {
            assert_eq!(code_of(answer).await.1, "request_under_way");
        } else {
            secrets.push(answer.json::<InviteResponse>().await.unwrap().secret);
        }
    }
    assert!(secrets.len() >= 2 && secrets.iter().all(|secret| *secret == secrets[0]), "{secrets:?}");
    let again = invite(&operator, "one", "attic").await;
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    let second = invite(&operator, "two", "attic").await;
    assert!(!second.headers().contains_key("idempotency-replayed"));
    assert_ne!(second.json::<InviteResponse>().await.unwrap().secret, secrets[0], "with another key it is another one");

    let reused = invite(&operator, "one", "cellar").await;
    assert_eq!(code_of(reused).await, (422, "idempotency_key_reused".to_owned()));
    for wrong in [String::new(), "k".repeat(256)] {
        assert_eq!(
            code_of(invite(&operator, &wrong, "attic").await).await,
            (422, "idempotency_key_invalid".to_owned())
        );
    }
}

#[tokio::test]
async fn an_answer_is_shown_to_whom_it_was_given_and_to_nobody_else() {
    let fixture = Fixture::start().await;
    let kim = fixture.user("kim", Role::Operator).await;
    let mine = invite(&fixture.operator(), "one", "attic").await.json::<InviteResponse>().await.unwrap();
    let theirs = invite(&kim, "one", "attic").await.json::<InviteResponse>().await.unwrap();
    assert_ne!(mine.secret, theirs.secret);
    let viewer = fixture.user("max", Role::Viewer).await;
    assert_eq!(invite(&viewer, "one", "attic").await.status(), 403);
    // Where nothing is changed, and for those who are not users, the key means nothing.
    let get = fixture.operator().request(reqwest::Method::GET, "/v1/nodes").header("Idempotency-Key", "one");
    assert_eq!(get.send().await.unwrap().json::<Vec<NodeView>>().await.unwrap(), []);
}
