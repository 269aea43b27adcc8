//! Signing in with a password, over real HTTPS: what opens a session, what ends it, and that nobody else's page can make use of it.

#![allow(clippy::unwrap_used)] // A test stops at the first surprise.

mod fixture;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fixture::browser::{Browser, PASSWORD, secret_of};
use fixture::{Denied, Fixture, Http, denied, eventually, open_core, tls};
use orangery::api::cookie::{CSRF, NAME};
use orangery::api::{audience::Audience, routes};
use orangery::engine::{IDLE_SECS, SESSION_SECS, SESSIONS_MAX};
use orangery::sha256;
use orangery_wire::rest::{
    AuditEntry, AuditPage, OwnPasswordRequest, PasswordRequest, Role, RoleRequest, SessionView, SignInRequest,
    SignedInView, Status, UserView,
};
use reqwest::header::{AUTHORIZATION, HeaderName, ORIGIN, SET_COOKIE};
use reqwest::{Method, StatusCode};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const NEW_PASSWORD: &str = "another quiet tram";

fn code<T>(answer: Result<T, Denied>) -> (u16, String) {
    let denied = answer.err().expect("it should have been denied");
    assert!(!denied.body.message.is_empty());
    (denied.status, denied.body.code)
}

fn denied_with(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

async fn code_of(response: reqwest::Response) -> (u16, String) {
    let denied = denied(response).await;
    (denied.status, denied.body.code)
}

async fn entries(fixture: &Fixture) -> Vec<AuditEntry> {
    let page: AuditPage = fixture.operator().get("/v1/audit?limit=1000").await.unwrap();
    page.entries.iter().map(|line| serde_json::from_str(&line.entry).unwrap()).collect()
}

/// What is written down, without what users did to be there.
async fn deeds(fixture: &Fixture) -> Vec<String> {
    let said = |entry: AuditEntry| format!("{} {} {} {}", entry.who, entry.deed, entry.object, entry.outcome);
    let is_of_interest = |entry: &AuditEntry| !matches!(entry.deed.as_str(), "user.add" | "token.make");
    entries(fixture).await.into_iter().filter(is_of_interest).map(said).collect()
}

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

/// Every header that a page of somebody else can make a browser send, or leave out.
fn of_other_pages<'a>(admin: &'a Browser, other: &'a Browser, url: &'a str) -> Vec<Vec<(HeaderName, &'a str)>> {
    let (csrf, ours) = ((CSRF, admin.csrf.as_str()), (ORIGIN, url));
    let evil = (ORIGIN, "https://evil.example");
    vec![
        vec![],
        vec![ours.clone()],
        vec![(SEC_FETCH_SITE, "same-origin")],
        vec![ours.clone(), (CSRF, "")],
        vec![ours.clone(), (CSRF, other.csrf.as_str())],
        vec![ours.clone(), (CSRF, admin.secret.as_str())],
        vec![csrf.clone()],
        vec![csrf.clone(), evil.clone()],
        vec![csrf.clone(), (ORIGIN, "null")],
        vec![csrf.clone(), (ORIGIN, "http://127.0.0.1")],
        vec![csrf.clone(), evil, (HeaderName::from_static("host"), "evil.example")],
        vec![csrf.clone(), ours.clone(), (SEC_FETCH_SITE, "same-site")],
        vec![csrf.clone(), ours, (SEC_FETCH_SITE, "cross-site")],
        vec![csrf, (SEC_FETCH_SITE, "cross-site")],
    ]
}

#[tokio::test]
async fn nothing_that_may_change_something_is_done_by_a_cookie_alone_whatever_else_a_strange_page_sends() {
    let fixture = Fixture::start().await;
    let (admin, other) = (fixture.browser("ada", Role::Admin).await, fixture.browser("otto", Role::Admin).await);
    let mut tried = 0;
    for route in routes().into_iter().filter(|route| !matches!(route.method, Method::GET | Method::HEAD)) {
        // Those look at no cookie at all.
        if route.audience == Audience::Anyone {
            continue;
        }
        let path = route.path.replace("{user}", "otto").replace("{node}", "attic").replace("{digest}", &"a".repeat(64));
        let path = path.replace("{rollout}", "1").replace("{token}", "0");
        for headers in of_other_pages(&admin, &other, &fixture.url) {
            let http = admin.with(&headers);
            let request =
                http.request(route.method.clone(), &path).json(&serde_json::json!({"password": NEW_PASSWORD}));
            let (status, code) = code_of(request.send().await.unwrap()).await;
            assert!(
                status == 403 && (code == "csrf_wrong" || code == "origin_wrong"),
                "{path} {headers:?}: {status} {code}"
            );
            tried += 1;
        }
    }
    assert!(tried >= 14 * 27, "{tried}");
    assert!(admin.is_in().await && other.is_in().await);
    // What is a page of ours, by either way of saying so.
    for (name, value) in [(ORIGIN, fixture.url.as_str()), (SEC_FETCH_SITE, "same-origin")] {
        let http = admin.with(&[(CSRF, admin.csrf.as_str()), (name, value)]);
        http.post::<()>("/v1/users/otto/sessions/end", &()).await.unwrap();
    }
    assert!(!other.is_in().await);
    // The refusals were written down as theirs, but not all of them.
    let refused = deeds(&fixture).await.into_iter().filter(|said| said.starts_with("ada request ")).count();
    assert!((10..30).contains(&refused), "{refused}");
}

#[tokio::test]
async fn a_strange_page_can_neither_sign_somebody_in_nor_look() {
    let fixture = Fixture::start().await;
    let kim = fixture.browser("kim", Role::Admin).await;
    let request = SignInRequest { user: "kim".into(), password: PASSWORD.into() };
    for (name, value, is_fine) in [
        (ORIGIN, fixture.url.as_str(), true),
        (SEC_FETCH_SITE, "same-origin", true),
        (ORIGIN, "https://evil.example", false),
        (ORIGIN, "null", false),
        (SEC_FETCH_SITE, "cross-site", false),
        (SEC_FETCH_SITE, "same-site", false),
    ] {
        let sent = fixture.stranger().request(Method::POST, "/v1/session").header(name, value).json(&request);
        let response = sent.send().await.unwrap();
        assert_eq!(response.status().is_success(), is_fine, "{value}");
        if !is_fine {
            assert_eq!(code_of(response).await, denied_with(403, "origin_wrong"), "{value}");
        }
    }
    let look = async |site: &str, mode: &str, path: &str| {
        let (mode, dest) =
            ((HeaderName::from_static("sec-fetch-mode"), mode), HeaderName::from_static("sec-fetch-dest"));
        let http = kim.with(&[(SEC_FETCH_SITE, site), mode, (dest, "document")]);
        let response = http.request(Method::GET, path).send().await.unwrap();
        if response.status().is_success() { "in".to_owned() } else { code_of(response).await.1 }
    };
    assert_eq!(look("same-origin", "cors", "/v1/status").await, "in");
    assert_eq!(look("none", "navigate", "/v1/status").await, "in");
    for (site, mode) in [("cross-site", "no-cors"), ("cross-site", "navigate"), ("same-site", "cors")] {
        for path in ["/v1/status", "/v1/session", "/v1/events/stream", "/metrics"] {
            assert_eq!(look(site, mode, path).await, "cross_site", "{site} {mode} {path}");
        }
    }
}

#[tokio::test]
async fn a_token_that_comes_along_counts_and_the_cookie_does_not() {
    let fixture = Fixture::start().await;
    let admin = fixture.browser("ada", Role::Admin).await;
    let viewer = fixture.user("vera", Role::Viewer).await;
    let token = viewer.request(Method::GET, "/healthz").build().unwrap().headers()[AUTHORIZATION].clone();
    let both = |token: &str| {
        admin.with(&[(AUTHORIZATION, token), (CSRF, admin.csrf.as_str()), (ORIGIN, fixture.url.as_str())])
    };
    let answer = both(token.to_str().unwrap()).get::<Vec<UserView>>("/v1/users").await;
    assert_eq!(code(answer), denied_with(403, "forbidden"));
    assert_eq!(code(both("Bearer nonsense").get::<Status>("/v1/status").await), denied_with(401, "token_wrong"));
    assert_eq!(code(both("").get::<Status>("/v1/status").await), denied_with(401, "token_wrong"));
    // And by a token nothing of what is asked of browsers is needed, wherever it says that it comes from.
    let request =
        fixture.operator().request(Method::POST, "/v1/users/vera/role").header(ORIGIN, "https://evil.example");
    assert!(request.json(&RoleRequest { role: Role::Operator }).send().await.unwrap().status().is_success());
    // A cookie that is stale does not keep anybody from signing in, and a session that is still open ends by it.
    let request = SignInRequest { user: "ada".into(), password: PASSWORD.into() };
    let _: SessionView = fixture.forger().with(&[]).post("/v1/session", &request).await.unwrap();
    let _: SessionView = admin.with(&[]).post("/v1/session", &request).await.unwrap();
    assert!(!admin.is_in().await);
}

#[tokio::test]
async fn whoever_is_not_let_in_learns_nothing_of_who_is_there() {
    let fixture = Fixture::start().await;
    fixture.add_with_password("kim", Role::Viewer).await;
    fixture.user("lee", Role::Viewer).await;
    let long = "x".repeat(20_000);
    let mut answers = BTreeSet::new();
    for (user, password) in [
        ("kim", "a quiet tran"),
        ("kim", ""),
        ("kim", long.as_str()),
        ("lee", PASSWORD),
        ("nobody", PASSWORD),
        ("owner", PASSWORD),
        ("no name at all\n", PASSWORD),
        ("", ""),
        (PASSWORD, PASSWORD),
    ] {
        let response = fixture.try_sign_in(user, password).await;
        assert!(!response.headers().contains_key(SET_COOKIE));
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        answers.insert(response.text().await.unwrap());
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    // What was typed for a name that nobody has is not kept: it may have been a password.
    let said = deeds(&fixture).await.join("\n");
    assert!(said.contains("stranger session.begin user kim sign_in_wrong"), "{said}");
    assert!(said.contains("stranger session.begin a name that nobody has sign_in_wrong"), "{said}");
    assert!(!said.contains("tram") && !said.contains("no name at all"), "{said}");
}

#[tokio::test]
async fn wrong_passwords_are_slowed_down_and_do_not_fill_the_audit_log() {
    let fixture = Fixture::start().await;
    let kim = fixture.browser("kim", Role::Viewer).await;
    for _ in 0..20 {
        assert_eq!(code_of(fixture.try_sign_in("kim", "guess").await).await, denied_with(401, "sign_in_wrong"));
    }
    for user in ["kim", "nobody"] {
        let right = fixture.try_sign_in(user, PASSWORD).await;
        assert_eq!(code_of(right).await, denied_with(429, "too_many_failures"), "a right one could be a guess");
    }
    // Who is in already goes on.
    assert!(kim.is_in().await);
    for _ in 0..50 {
        fixture.try_sign_in("kim", "guess").await;
    }
    fixture.clock.advance(61);
    fixture.sign_in("kim").await;
    let refused = deeds(&fixture).await.into_iter().filter(|said| said.starts_with("stranger")).count();
    assert!((2..=20).contains(&refused), "{refused} entries");
    fixture.clock.advance(3_600);
    fixture.try_sign_in("kim", "guess").await;
    let entries = entries(&fixture).await;
    let last = entries.last().unwrap();
    assert_eq!((last.who.as_str(), last.from.as_deref()), ("stranger", Some("127.0.0.1")));
    assert_eq!(last.detail["unwritten"], "61", "what was not written down is counted");
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
async fn passwords_are_set_by_those_who_may_and_are_good_enough() {
    let fixture = Fixture::start().await;
    let owner = fixture.operator();
    let kim = fixture.user("kim", Role::Operator).await;
    let ada = fixture.user("ada", Role::Admin).await;
    let own = |old: &str, new: &str| OwnPasswordRequest { old: old.to_owned(), password: new.to_owned() };
    let new = |password: &str| PasswordRequest { password: password.to_owned() };
    // The first one comes from an admin: a token that was seen by others must not last longer than it does.
    assert_eq!(
        code(kim.post::<()>("/v1/session/password", &own("", PASSWORD)).await),
        denied_with(403, "password_wrong")
    );
    assert_eq!(code(kim.post::<()>("/v1/users/kim/password", &new(PASSWORD)).await), denied_with(403, "forbidden"));
    ada.post::<()>("/v1/users/kim/password", &new(PASSWORD)).await.unwrap();
    assert_eq!(
        code(kim.post::<()>("/v1/session/password", &own("a guess", NEW_PASSWORD)).await),
        denied_with(403, "password_wrong")
    );
    let browser = fixture.sign_in("kim").await;
    browser.page().post::<()>("/v1/session/password", &own(PASSWORD, NEW_PASSWORD)).await.unwrap();
    assert!(!browser.is_in().await);
    assert_eq!(code_of(fixture.try_sign_in("kim", PASSWORD).await).await, denied_with(401, "sign_in_wrong"));
    assert!(fixture.try_sign_in("kim", NEW_PASSWORD).await.status().is_success());

    for unfit in ["short", "password1234", "aaaaaaaaaaaaaa", &"x".repeat(200), "kim's\ttab in it"] {
        let answer = ada.post::<()>("/v1/users/kim/password", &new(unfit)).await.err().unwrap();
        assert_eq!((answer.status, answer.body.code.as_str()), (422, "password_unfit"));
        assert!(!answer.body.message.contains(unfit), "it is not told again");
    }
    // One's own takes the old one, for an admin too; the owner's is the owner's own.
    ada.post::<()>("/v1/users/ada/password", &new(PASSWORD)).await.unwrap();
    let again = ada.post::<()>("/v1/users/ada/password", &new(NEW_PASSWORD)).await;
    assert_eq!(code(again), denied_with(409, "old_password_needed"));
    assert_eq!(code(ada.post::<()>("/v1/users/owner/password", &new(PASSWORD)).await), denied_with(409, "owner_fixed"));
    assert_eq!(
        code(owner.post::<()>("/v1/users/nobody/password", &new(PASSWORD)).await),
        denied_with(404, "unknown_user")
    );
    owner.post::<()>("/v1/users/owner/password", &new(PASSWORD)).await.unwrap();
    fixture.sign_in("owner").await;
    let users: Vec<UserView> = owner.get("/v1/users").await.unwrap();
    assert!(users.iter().all(|user| user.password_at == Some(fixture.clock.now())), "{users:?}");
    let said = deeds(&fixture).await.join("\n");
    assert!(
        said.contains("ada user.password user kim done") && said.contains("kim user.password user kim done"),
        "{said}"
    );
    assert!(said.contains("ada user.password user owner owner_fixed") && !said.contains("tram"), "{said}");
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
    let goes_on = tokio::time::timeout(Duration::from_millis(200), ends(of_owner)).await;
    assert!(goes_on.is_err(), "the owner's goes on");
}

#[tokio::test]
async fn every_answer_tells_browsers_to_trust_nothing_and_keep_nothing() {
    let fixture = Fixture::start().await;
    let kim = fixture.browser("kim", Role::Viewer).await;
    for path in ["/healthz", "/v1/openapi.json", "/v1/session", "/v1/users", "/nothing", "/v1/events/stream"] {
        let response = kim.page().request(Method::GET, path).send().await.unwrap();
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
        let policy = header("content-security-policy").unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'self'",
        ] {
            assert!(policy.split("; ").any(|there| there == part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(header("referrer-policy"), Some("same-origin"), "{path}");
        assert_eq!(header("cross-origin-opener-policy"), Some("same-origin"), "{path}");
        assert_eq!(header("cross-origin-resource-policy"), Some("same-origin"), "{path}");
        assert!(
            header("cache-control").is_some_and(|value| value == "no-store" || path == "/v1/events/stream"),
            "{path}"
        );
        assert_eq!(header("strict-transport-security"), None, "{path}");
    }
}

#[tokio::test]
async fn a_command_that_a_user_may_not_give_is_written_down_and_what_anybody_else_may_not_is_not() {
    let fixture = Fixture::start().await;
    let vera = fixture.user("vera", Role::Viewer).await;
    let before = entries(&fixture).await.len();
    assert_eq!(code(vera.post::<()>("/v1/nodes/garage/revoke", &()).await), denied_with(403, "forbidden"));
    for stranger in [fixture.stranger(), fixture.with_token("a guess"), fixture.forger().page()] {
        assert_eq!(code(stranger.post::<()>("/v1/nodes/garage/revoke", &()).await).0, 401);
    }
    // To look is no command, and neither is a plan.
    assert_eq!(code(vera.get::<Vec<UserView>>("/v1/users").await), denied_with(403, "forbidden"));
    let written: Vec<AuditEntry> = entries(&fixture).await.split_off(before);
    let [entry] = &written[..] else { panic!("{written:?}") };
    assert_eq!((entry.who.as_str(), entry.from.as_deref()), ("vera", Some("127.0.0.1")));
    let said = (entry.deed.as_str(), entry.object.as_str(), entry.outcome.as_str());
    assert_eq!(said, ("request", "POST /v1/nodes/garage/revoke", "forbidden"));
    assert!(entry.token.is_some());
}

/// `orangery`, with its own directory.
fn orangery(home: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orangery"));
    command.arg("--dir").arg(home).args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it with something on its standard input: whether it succeeded, and what it said.
fn said(mut command: Command, input: &str) -> (bool, String) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said)
}

/// A coordinator as a process, killed when it is dropped.
struct Coordinator(Child, String);

impl Coordinator {
    async fn serve(home: &Path) -> Self {
        let ready = home.join("ready");
        let _ = std::fs::remove_file(&ready);
        let mut command = orangery(home, &["serve", "--ready-file"]);
        let child = command.arg(&ready).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let line = eventually("it is ready", async || std::fs::read_to_string(&ready).ok()).await;
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        Self(child, ready["https"].as_str().unwrap().to_owned())
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_coordinator_that_is_killed_still_knows_who_was_signed_in_and_by_which_addresses_it_is_reached() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("home");
    let (done, init) = said(
        orangery(
            &home,
            &["init", "--no-passphrase", "--address", "127.0.0.1", "--https-port", "0", "--mqtt-port", "0"],
        ),
        "",
    );
    assert!(done, "{init}");
    let settings = home.join("coordinator/coordinator.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    let text = text.replace("[https]\n", "[https]\npublic_urls = [\"https://fleet.example.org\"]\n");
    std::fs::write(&settings, text).unwrap();
    let coordinator = Coordinator::serve(&home).await;

    let password = |words: &[&str], input: &str| said(orangery(&home, words), input);
    let (done, text) = password(&["user", "password", "owner", "--stdin"], "too short\n");
    assert!(!done && text.contains("from 12 to 128 characters"), "{text}");
    let (done, text) = password(&["user", "password", "owner"], "");
    assert!(!done && text.contains("use --stdin or --file FILE"), "{text}");
    let (done, text) = password(&["user", "password", "owner", "--stdin"], &format!("{PASSWORD}\n"));
    assert!(done && !text.contains("tram"), "{text}");
    let (done, text) = password(&["user", "password", "owner", "--stdin"], &format!("{NEW_PASSWORD}\n"));
    assert!(!done && text.contains("old_password_needed"), "{text}");
    let file = directory.path().join("both");
    std::fs::write(&file, format!("{PASSWORD}\n{NEW_PASSWORD}\n")).unwrap();
    let (done, text) = password(&["user", "password", "owner", "--file", file.to_str().unwrap()], "");
    assert!(done, "{text}");

    let ca = std::fs::read_to_string(home.join("coordinator/ca.pem")).unwrap();
    let http = Http::over(tls(&ca, None), &coordinator.1, None);
    let request = SignInRequest { user: "owner".into(), password: NEW_PASSWORD.into() };
    let sent = http.request(Method::POST, "/v1/session").header(ORIGIN, "https://fleet.example.org").json(&request);
    let response = sent.send().await.unwrap();
    let secret = secret_of(&response).unwrap();
    let view: SessionView = response.json().await.unwrap();
    let (done, text) = password(&["user", "sessions", "owner"], "");
    assert!(done && text.contains("127.0.0.1"), "{text}");

    drop(coordinator);
    let coordinator = Coordinator::serve(&home).await;
    let http = Http::over(tls(&ca, None), &coordinator.1, None);
    let change = async |origin: &str| {
        let request = http.request(Method::POST, "/v1/invites").header("cookie", format!("{NAME}={secret}"));
        let request = request.header(CSRF, view.csrf.clone().unwrap()).header(ORIGIN, origin);
        request.json(&serde_json::json!({"expires_secs": 60, "uses": 1})).send().await.unwrap().status().as_u16()
    };
    assert_eq!(change("https://fleet.example.org").await, 200);
    assert_eq!(change(&coordinator.1).await, 200);
    assert_eq!(change("https://fleet.example.com").await, 403);
    let (done, text) = password(&["user", "sessions", "owner", "--end"], "");
    assert!(done, "{text}");
    assert_eq!(change(&coordinator.1).await, 401);

    // Whoever had the owner's token may have set the password with it: it goes with the token.
    drop(coordinator);
    let (done, text) = password(&["keys", "operator-token"], "");
    assert!(done, "{text}");
    let coordinator = Coordinator::serve(&home).await;
    let http = Http::over(tls(&ca, None), &coordinator.1, None);
    let answer = http.post::<SessionView>("/v1/session", &request).await;
    assert_eq!(code(answer), denied_with(401, "sign_in_wrong"));
}
