//! Signing in with a password, over real HTTPS: what opens a session, what ends it, and that nobody else's page can make use of it.

#![allow(clippy::unwrap_used)] // A test stops at the first surprise.

#[path = "../fixture/mod.rs"]
mod fixture;

mod meanwhile;
mod pages;
mod passwords;
mod process;
mod written;

use std::collections::BTreeSet;
use std::time::Duration;

use fixture::browser::{PASSWORD, secret_of};
use fixture::{Fixture, Http, code, code_of, denied_with, open_core};
use orangery::api::cookie::NAME;
use orangery::engine::{IDLE_SECS, SESSION_SECS, SESSIONS_MAX};
use orangery::sha256;
use orangery_wire::rest::{NewToken, Role, RoleRequest, SessionView, SignedInView, Status, TokenRequest, UserView};
use reqwest::header::{HeaderName, SET_COOKIE};
use reqwest::{Method, StatusCode};
use written::{deeds, entries};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const NEW_PASSWORD: &str = "another quiet tram";

#[tokio::test]
async fn the_right_password_opens_a_session_that_a_page_finds_again_and_signing_out_ends() {
    let fixture = Fixture::start().await;
    fixture.add_with_password("kim", Role::Operator).await;
    let response = fixture.try_sign_in("kim", PASSWORD).await;
    let cookie = response.headers()[SET_COOKIE].to_str().unwrap().to_owned();
    let parts: BTreeSet<&str> = cookie.split("; ").skip(1).collect();
    assert_eq!(parts, ["HttpOnly", "Secure", "SameSite=Strict", "Path=/", "Max-Age=604800"].into());
    let secret = secret_of(&response).unwrap();
    assert!(cookie.starts_with(&format!("{NAME}={secret};")) && secret.len() == 43, "256 bits: {cookie}");
    let view: SessionView = response.json().await.unwrap();
    assert_eq!((view.user.as_str(), view.role), ("kim", Role::Operator));
    assert_eq!(view.expires_at, Some(fixture.clock.now() + IDLE_SECS));

    let kim = fixture.sign_in("kim").await;
    assert_ne!(kim.secret, secret, "each session has a secret of its own");
    fixture.clock.advance(60);
    let again: SessionView = kim.with(&[]).get("/v1/session").await.unwrap();
    assert_eq!(again.csrf.as_deref(), Some(kim.csrf.as_str()), "a page that is loaded again finds it");
    assert_eq!(again.expires_at, Some(fixture.clock.now() + IDLE_SECS));
    let _: Status = kim.with(&[]).get("/v1/status").await.unwrap();
    // By a token the same route says who one is, and that nothing else is needed.
    let owner: SessionView = fixture.operator().get("/v1/session").await.unwrap();
    assert_eq!((owner.user.as_str(), owner.csrf, owner.expires_at), ("owner", None, None));
    let by_token = fixture.operator().request(Method::DELETE, "/v1/session").send().await.unwrap();
    assert_eq!(code_of(by_token).await, denied_with(409, "no_session"));
    assert_eq!(code(fixture.stranger().get::<()>("/v1/session").await), denied_with(401, "unauthenticated"));

    let out = kim.delete("/v1/session").await;
    assert_eq!(out.status(), StatusCode::NO_CONTENT);
    assert_eq!(secret_of(&out).as_deref(), Some(""), "the browser forgets it");
    assert!(out.headers()[SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    assert!(!kim.is_in().await);

    let first = "kim session.begin user kim done";
    let all = deeds(&fixture).await;
    assert_eq!(all[..3], ["owner user.password user kim done", first, first]);
    assert!(all[3].starts_with("kim session.end session:") && all[3].ends_with(" done"), "{all:?}");
    let entries = entries(&fixture).await;
    let begun = entries.iter().rfind(|entry| entry.deed == "session.begin").unwrap();
    let id = format!("session:{}", &sha256::digest(kim.secret.as_bytes()).to_string()[..12]);
    assert_eq!((begun.token.as_deref(), begun.from.as_deref()), (Some(id.as_str()), Some("127.0.0.1")));
}

#[tokio::test]
async fn a_session_ends_when_it_should() {
    let fixture = Fixture::start().await;
    fixture.add_with_password("kim", Role::Operator).await;
    // Idle.
    let kim = fixture.sign_in("kim").await;
    fixture.clock.advance(IDLE_SECS - 1);
    assert!(kim.is_in().await);
    fixture.clock.advance(IDLE_SECS);
    assert!(!kim.is_in().await);
    // However much it is used.
    let kim = fixture.sign_in("kim").await;
    let begun = fixture.clock.now();
    while fixture.clock.now() + IDLE_SECS / 2 < begun + SESSION_SECS {
        fixture.clock.advance(IDLE_SECS / 2);
        let view: SessionView = kim.page().get("/v1/session").await.unwrap();
        assert!(view.expires_at.unwrap() <= begun + SESSION_SECS);
    }
    fixture.clock.advance(begun + SESSION_SECS - fixture.clock.now());
    assert!(!kim.is_in().await);
    // Those that have ended are removed in passing.
    fixture.engine.look_at_rollouts().await.unwrap();
    assert!(fixture.reader().read(|view| view.sessions()).unwrap().is_empty());

    let owner = fixture.operator();
    let kim = fixture.sign_in("kim").await;
    let _: UserView = owner.post("/v1/users/kim/role", &RoleRequest { role: Role::Viewer }).await.unwrap();
    assert!(!kim.is_in().await, "another role");
    let kim = fixture.sign_in("kim").await;
    fixture.set_password("kim", PASSWORD).await.unwrap();
    assert!(!kim.is_in().await, "another password, though it is the same");
    let kim = fixture.sign_in("kim").await;
    let listed: Vec<SignedInView> = owner.get("/v1/users/kim/sessions").await.unwrap();
    let [session] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((session.from.as_deref(), session.used_at), (Some("127.0.0.1"), fixture.clock.now()));
    owner.post::<()>("/v1/users/kim/sessions/end", &()).await.unwrap();
    assert!(!kim.is_in().await, "an admin has ended it");
    assert_eq!(code(owner.get::<()>("/v1/users/kin/sessions").await), denied_with(404, "unknown_user"));
    let kim = fixture.sign_in("kim").await;
    owner.post::<()>("/v1/users/kim/remove", &()).await.unwrap();
    assert!(!kim.is_in().await, "the user is removed");
    fixture.add_with_password("kim", Role::Operator).await;
    assert!(!kim.is_in().await, "somebody else by the same name");
}

#[tokio::test]
async fn with_one_session_too_many_the_oldest_ends() {
    let fixture = Fixture::start().await;
    fixture.add_with_password("kim", Role::Viewer).await;
    let mut all = Vec::new();
    for _ in 0..=SESSIONS_MAX {
        all.push(fixture.sign_in("kim").await);
        fixture.clock.advance(1);
    }
    assert!(!all[0].is_in().await);
    for browser in &all[1..] {
        assert!(browser.is_in().await);
    }
}

#[tokio::test]
async fn of_passwords_and_sessions_nothing_is_on_the_disk_that_opens_anything_and_a_restart_ends_none() {
    let fixture = Fixture::start().await;
    let kim = fixture.browser("kim", Role::Viewer).await;
    fixture.clock.advance(600);
    assert!(kim.is_in().await);
    let engine = fixture.engine.clone();
    tokio::task::spawn_blocking(move || engine.stop()).await.unwrap();
    let mut disk = Vec::new();
    for entry in std::fs::read_dir(fixture.directory.path()).unwrap() {
        disk.extend(std::fs::read(entry.unwrap().path()).unwrap_or_default());
    }
    let has = |text: &str| disk.windows(text.len()).any(|window| window == text.as_bytes());
    let digest = sha256::digest(kim.secret.as_bytes());
    assert!(has(&digest.to_string()) && has("$argon2id$v=19$m=19456,t=2,p=1$"));
    assert!(!has(&kim.secret) && !has(&kim.csrf) && !has(PASSWORD));
    let core = open_core(fixture.directory.path(), &fixture.clock);
    let [row] = &core.view().sessions().unwrap()[..] else { panic!("one session") };
    assert_eq!((row.digest, row.used_at), (digest, fixture.clock.now()), "when it was used last is known");
}

/// Reads a stream until it ends.
async fn ends(mut stream: reqwest::Response) {
    let end = async { while let Ok(Some(_)) = stream.chunk().await {} };
    tokio::time::timeout(Duration::from_secs(20), end).await.expect("the stream ends");
}

#[tokio::test]
async fn an_event_stream_ends_with_the_session_or_token_that_opened_it() {
    let fixture = Fixture::start().await;
    fixture.add_with_password("kim", Role::Viewer).await;
    let open = async |http: &Http| {
        let response = http.request(Method::GET, "/v1/events/stream").send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        response
    };
    let kim = fixture.sign_in("kim").await;
    let stream = open(&kim.with(&[(SEC_FETCH_SITE, "same-origin")])).await;
    let of_owner = open(&fixture.operator()).await;
    kim.delete("/v1/session").await;
    ends(stream).await;
    // One that nobody ends, but time does.
    let kim = fixture.sign_in("kim").await;
    let stream = open(&kim.page()).await;
    fixture.clock.advance(IDLE_SECS);
    ends(stream).await;
    let vera = fixture.user("vera", Role::Viewer).await;
    let stream = open(&vera).await;
    fixture.operator().post::<()>("/v1/users/vera/remove", &()).await.unwrap();
    ends(stream).await;
    // A token ends by itself too, and what its user may do can change.
    fixture.user("ada", Role::Viewer).await;
    let hour = TokenRequest { expires_secs: Some(3_600) };
    let token: NewToken = fixture.operator().post("/v1/users/ada/tokens", &hour).await.unwrap();
    let stream = open(&fixture.with_token(&token.token)).await;
    fixture.clock.advance(3_600);
    ends(stream).await;
    let eve = fixture.user("eve", Role::Operator).await;
    let stream = open(&eve).await;
    fixture.operator().post::<UserView>("/v1/users/eve/role", &RoleRequest { role: Role::Viewer }).await.unwrap();
    ends(stream).await;
    let goes_on = tokio::time::timeout(Duration::from_millis(200), ends(of_owner)).await;
    assert!(goes_on.is_err(), "the owner's goes on");
}
