//! Requests that come again, because their answer was lost, are done once.

#![allow(clippy::unwrap_used)] // A test stops at the first surprise.

mod fixture;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fixture::{Fixture, Http, code_of};
use orangery::client::{Client, ClientError};
use orangery::home::Home;
use orangery_wire::rest::{AuditEntry, AuditPage, InviteRequest, InviteResponse, NodeView, Role};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

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

/// A way to the coordinator on which connections break as soon as an answer comes back: the first `breaks` of them.
struct Way {
    port: u16,
    taken: Arc<AtomicUsize>,
}

impl Way {
    async fn to(url: &str, breaks: usize) -> Self {
        let coordinator = url.strip_prefix("https://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, taken) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let way = Self { port, taken: taken.clone() };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let whole = taken.fetch_add(1, Ordering::SeqCst) >= breaks;
                let far = TcpStream::connect(&coordinator).await.unwrap();
                tokio::spawn(async move { carry(near, far, whole).await });
            }
        });
        way
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }
}

/// Carries all of it, or up to the answer: what the far end says after the near end has answered its part of the handshake.
async fn carry(mut near: TcpStream, mut far: TcpStream, whole: bool) -> std::io::Result<()> {
    let (mut up, mut down) = ([0; 4_096], [0; 4_096]);
    let (mut is_greeted, mut is_asked) = (false, false);
    loop {
        tokio::select! {
            count = near.read(&mut up) => match count? {
                0 => return Ok(()),
                count => {
                    is_asked |= is_greeted;
                    far.write_all(&up[..count]).await?;
                }
            },
            count = far.read(&mut down) => match count? {
                0 => return Ok(()),
                _ if is_asked && !whole => return Ok(()),
                count => {
                    is_greeted = true;
                    near.write_all(&down[..count]).await?;
                }
            },
        }
    }
}

async fn invites_made(fixture: &Fixture) -> usize {
    let page: AuditPage = fixture.operator().get("/v1/audit").await.unwrap();
    let entries = page.entries.iter().map(|line| serde_json::from_str::<AuditEntry>(&line.entry).unwrap());
    entries.filter(|entry| entry.deed == "invite.make").count()
}

#[tokio::test]
async fn a_command_whose_answer_is_lost_twice_asks_again_and_is_done_once() {
    let fixture = Fixture::start().await;
    let way = Way::to(&fixture.url, 2).await;
    let client = Client::open(&Home::new(fixture.laptop(&way.url()))).unwrap();
    let asked = InviteRequest { name: None, expires_secs: 600, uses: 1 };
    let invite: InviteResponse = client.post("/v1/invites", &asked).await.unwrap();
    assert_eq!(way.taken.load(Ordering::SeqCst), 3);
    assert_eq!(invites_made(&fixture).await, 1);
    assert!(!invite.secret.is_empty());
    client.post::<InviteResponse>("/v1/invites", &asked).await.unwrap();
    assert_eq!(invites_made(&fixture).await, 2, "another deed has another key");
}

#[tokio::test]
async fn a_command_whose_answer_never_comes_says_that_it_may_have_been_done() {
    let fixture = Fixture::start().await;
    let way = Way::to(&fixture.url, usize::MAX).await;
    let client = Client::open(&Home::new(fixture.laptop(&way.url()))).unwrap();
    let asked = InviteRequest { name: None, expires_secs: 600, uses: 1 };
    let error = client.post::<serde_json::Value>("/v1/invites", &asked).await.unwrap_err();
    assert!(matches!(error, ClientError::Lost { .. }), "{error:?}");
    assert!(error.to_string().ends_with("it may have been done all the same: look before you try again"), "{error}");
    assert_eq!((way.taken.load(Ordering::SeqCst), invites_made(&fixture).await), (5, 1));
    // What changes nothing is not asked for again: whoever asked can.
    let error = client.get::<Vec<NodeView>>("/v1/nodes").await.unwrap_err();
    assert!(error.is_silence() && error.to_string().ends_with("; try again"), "{error}");
    assert_eq!(way.taken.load(Ordering::SeqCst), 6);
}
