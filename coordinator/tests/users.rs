//! Users over real HTTPS on loopback: who is let in where, tokens that begin and end, and whose name is written down.

#![allow(clippy::unwrap_used)] // A test stops at the first surprise.

mod fixture;

use std::fmt::Write as _;

use fixture::{Denied, Fixture, Http, METRICS_TOKEN, code, csr, denied, denied_with, node, tls};
use orangery::api::cookie::CSRF;
use orangery::api::routes;
use orangery::ca::NODE_DAYS;
use orangery::engine::IDLE_SECS;
use orangery_wire::rest::{
    HoldRequest, HoldView, InviteRequest, InviteResponse, NewToken, Role, RoleRequest, Status, TokenRequest,
    UserRequest, UserView,
};
use rcgen::KeyPair;
use reqwest::Method;
use reqwest::header::ORIGIN;

const RECORDED: &str = include_str!("routes.txt");
const HOUR: u64 = 3_600;

/// A path that the route takes, though nothing that it names is there.
fn filled(path: &str) -> String {
    path.replace("{node}", "nobody")
        .replace("{user}", "nobody")
        .replace("{app}", "greeter")
        .replace("{version}", "1.0.0")
        .replace("{digest}", &"a".repeat(64))
        .replace("{rollout}", "1")
        .replace("{token}", "0")
        .replace("{target}", "nobody")
        .replace("{file}", "timestamp.json")
}

/// What a route answers to somebody: `in` if it let them in, else why not.
async fn verdict(http: &Http, method: &Method, path: &str) -> String {
    let response = http.request(method.clone(), path).send().await.unwrap();
    let status = response.status().as_u16();
    match status {
        401 | 403 if *method == Method::HEAD => status.to_string(),
        401 | 403 => format!("{status} {}", denied(response).await.body.code),
        429 => panic!("{method} {path} is slowed down"),
        _ => "in".to_owned(),
    }
}

/// Users who have signed in, by what the table calls them.
const SIGNED_IN: [(&str, &str, Role); 3] = [
    ("cookie-viewer", "vivian", Role::Viewer),
    ("cookie-operator", "oskar", Role::Operator),
    ("cookie-admin", "anton", Role::Admin),
];

/// Browsers: of those who have signed in, and of those whose cookies open nothing, or not what they ask for.
async fn browsers(fixture: &Fixture) -> Vec<(&'static str, Http)> {
    let expired = fixture.browser("elsa", Role::Admin).await;
    fixture.clock.advance(IDLE_SECS);
    let before = fixture.browser("paula", Role::Admin).await;
    fixture.set_password("paula", "another quiet tram").await.unwrap();
    let admin = fixture.browser("conny", Role::Admin).await;
    let mut all = Vec::new();
    for (who, name, role) in SIGNED_IN {
        all.push((who, fixture.browser(name, role).await.page()));
    }
    let evil = (ORIGIN, "https://evil.example");
    let others: [(&str, Http); 5] = [
        ("no-csrf", admin.with(&[(ORIGIN, fixture.url.as_str())])),
        ("wrong-origin", admin.with(&[(CSRF, admin.csrf.as_str()), evil])),
        ("forged-cookie", fixture.forger().page()),
        ("expired-session", expired.page()),
        ("old-password", before.page()),
    ];
    all.extend(others);
    all
}

/// Everybody who may come, by what the table calls them.
async fn everybody(fixture: &Fixture) -> Vec<(&'static str, Http)> {
    let browsers = browsers(fixture).await;
    let (garage, _, _) = fixture.join("garage").await;
    let (revoked, _, _) = fixture.join("stolen").await;
    fixture.operator().post::<()>("/v1/nodes/stolen/revoke", &()).await.unwrap();
    let key = KeyPair::generate().unwrap();
    let long_ago = fixture.clock.now() - (NODE_DAYS + 1) * 86_400;
    let expired = fixture.ca.issue_node(&node("away"), &csr(&key), long_ago).unwrap();
    let link = fixture.ca.issue_link(fixture.clock.now()).unwrap();
    let link =
        Http::over(tls(fixture.ca.certificate_pem(), Some((&link.certificate.pem, &link.key_pem))), &fixture.url, None);
    let others = vec![
        ("anonymous", fixture.stranger()),
        ("wrong-token", fixture.with_token("a-guess")),
        ("no-token", fixture.with_token("")),
        ("viewer", fixture.user("vera", Role::Viewer).await),
        ("operator", fixture.user("otto", Role::Operator).await),
        ("admin", fixture.user("ada", Role::Admin).await),
        ("owner", fixture.operator()),
        ("metrics", fixture.with_token(METRICS_TOKEN)),
        ("node", garage),
        ("expired-node", fixture.with_certificate(&expired.pem, &key)),
        ("revoked-node", revoked),
        ("link", link),
    ];
    others.into_iter().chain(browsers).collect()
}

#[tokio::test]
async fn every_route_lets_in_whom_the_recorded_table_names_and_nobody_else() {
    let fixture = Fixture::start().await;
    let mut everybody = everybody(&fixture).await;
    let mut rows =
        vec![["route"].into_iter().chain(everybody.iter().map(|(who, _)| *who)).map(str::to_owned).collect()];
    for route in routes() {
        let mut row: Vec<String> = vec![format!("{} {}", route.method, route.path)];
        for (_, http) in &everybody {
            row.push(verdict(http, &route.method, &filled(route.path)).await.replace(' ', ":"));
        }
        rows.push(row);
        // Wrong tokens are slowed down after twenty in a minute.
        fixture.clock.advance(61);
        if route.method == Method::DELETE {
            // Whoever has signed out comes back.
            for (who, name, _) in SIGNED_IN {
                let http = fixture.sign_in(name).await.page();
                everybody.iter_mut().filter(|(there, _)| *there == who).for_each(|there| there.1 = http.clone());
            }
        }
    }
    let widths: Vec<usize> =
        (0..=everybody.len()).map(|k| rows.iter().map(|row: &Vec<String>| row[k].len()).max().unwrap()).collect();
    let mut table = String::new();
    for row in &rows {
        let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(table, "{}", line.join("  ").trim_end()).unwrap();
    }
    if std::env::var_os("ORANGERY_WRITE_ROUTES").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/routes.txt"), &table).unwrap();
    }
    assert!(
        table == RECORDED,
        "who may do what has changed; if that is meant, write the table anew with ORANGERY_WRITE_ROUTES=1 and look at \
         each line that differs:\n{table}"
    );
}

/// The recorded table once more, held against a rule that does not come from it: roles only ever add to one another, and
/// nothing that changes something is for viewers, scrapers or strangers.
#[test]
fn in_the_recorded_table_roles_add_to_one_another_and_whoever_may_only_look_changes_nothing() {
    let mut lines = RECORDED.lines();
    let head: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    let place = |who: &str| head.iter().position(|name| *name == who).unwrap() + 1;
    let mut changing = 0;
    for line in lines {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let is_in = |who: &str| cells[place(who)] == "in";
        assert!(!is_in("viewer") || is_in("operator"), "{line}");
        assert!(!is_in("operator") || is_in("admin"), "{line}");
        assert_eq!(is_in("admin"), is_in("owner"), "{line}");
        assert!(!is_in("wrong-token") && !is_in("no-token") && !is_in("revoked-node"), "{line}");
        assert!(!is_in("anonymous") || is_in("link"), "{line}");
        let (method, path) = (cells[0], cells[1]);
        // What a board asks for, or says of itself.
        let for_boards = matches!(path, "/v1/join" | "/v1/renew" | "/v1/output");
        let for_anyone = is_in("anonymous");
        // A cookie opens what a token of the same user does, and nothing if it is not one.
        for role in ["viewer", "operator", "admin"] {
            assert_eq!(is_in(role), is_in(&format!("cookie-{role}")), "{role}: {line}");
        }
        for nobodys in ["forged-cookie", "expired-session", "old-password"] {
            assert_eq!(is_in(nobodys), for_anyone, "{nobodys}: {line}");
        }
        let changes = !matches!(method, "GET" | "HEAD");
        for without in ["no-csrf", "wrong-origin"] {
            assert_eq!(is_in(without), for_anyone || (!changes && is_in("admin")), "{without}: {line}");
        }
        if changes && !path.ends_with("/plan") && !for_boards && !path.starts_with("/v1/session") {
            changing += 1;
            for who in ["anonymous", "viewer", "cookie-viewer", "metrics", "node", "expired-node", "link"] {
                assert!(!is_in(who), "{who}: {line}");
            }
        }
        if path.starts_with("/v1/users") || path.starts_with("/v1/tokens") || path.ends_with("/revoke") {
            assert!(!is_in("operator") && is_in("admin"), "{line}");
        }
    }
    assert!(changing >= 18, "{changing} routes that change something");
}

async fn add(fixture: &Fixture, name: &str, role: Role) -> Result<UserView, Denied> {
    let request = UserRequest { name: name.parse().unwrap(), role };
    fixture.operator().post("/v1/users", &request).await
}

async fn token(fixture: &Fixture, name: &str, expires_secs: Option<u64>) -> Result<NewToken, Denied> {
    fixture.operator().post(&format!("/v1/users/{name}/tokens"), &TokenRequest { expires_secs }).await
}

async fn listed(fixture: &Fixture, name: &str) -> Option<UserView> {
    let users: Vec<UserView> = fixture.operator().get("/v1/users").await.unwrap();
    users.into_iter().find(|user| user.name.as_str() == name)
}

async fn looks(http: &Http) -> Result<Status, Denied> {
    http.get("/v1/status").await
}

async fn invites(http: &Http) -> Result<InviteResponse, Denied> {
    http.post("/v1/invites", &InviteRequest { name: None, expires_secs: 60, uses: 1 }).await
}

#[tokio::test]
async fn a_role_that_is_changed_and_a_token_or_user_that_is_taken_away_count_from_the_next_request_on() {
    let fixture = Fixture::start().await;
    let user = add(&fixture, "kim", Role::Viewer).await.unwrap();
    assert_eq!((user.role, user.tokens.len()), (Role::Viewer, 0));
    let (one, two) = (token(&fixture, "kim", None).await.unwrap(), token(&fixture, "kim", None).await.unwrap());
    let (by_one, by_two) = (fixture.with_token(&one.token), fixture.with_token(&two.token));
    looks(&by_one).await.unwrap();
    let forbidden = invites(&by_one).await.err().unwrap();
    assert_eq!(forbidden.body.message, "this is for the role operator, and kim has the role viewer");

    let changed: UserView =
        fixture.operator().post("/v1/users/kim/role", &RoleRequest { role: Role::Operator }).await.unwrap();
    assert_eq!(changed.role, Role::Operator);
    invites(&by_one).await.unwrap();
    assert_eq!(code(by_one.get::<Vec<UserView>>("/v1/users").await), denied_with(403, "forbidden"));

    fixture.operator().post::<()>(&format!("/v1/tokens/{}/revoke", one.id), &()).await.unwrap();
    assert_eq!(code(looks(&by_one).await), denied_with(401, "token_wrong"));
    looks(&by_two).await.unwrap();
    fixture.operator().post::<()>("/v1/users/kim/remove", &()).await.unwrap();
    assert_eq!(code(looks(&by_two).await), denied_with(401, "token_wrong"));
    assert!(listed(&fixture, "kim").await.is_none());
    // Whoever comes later by the same name has none of the old tokens.
    add(&fixture, "kim", Role::Admin).await.unwrap();
    assert_eq!(code(looks(&by_two).await), denied_with(401, "token_wrong"));
}

#[tokio::test]
async fn a_token_ends_when_it_should_and_its_last_use_is_known_over_a_restart() {
    let fixture = Fixture::start().await;
    add(&fixture, "ci", Role::Operator).await.unwrap();
    let made = token(&fixture, "ci", Some(HOUR)).await.unwrap();
    assert_eq!(made.expires_at, Some(fixture.clock.now() + HOUR));
    assert!(made.token.starts_with("orangery_") && made.token.len() > 9 + 42, "256 bits");
    assert_eq!(listed(&fixture, "ci").await.unwrap().tokens[0].used_at, None);
    let http = fixture.with_token(&made.token);
    looks(&http).await.unwrap();
    let used = fixture.clock.now();
    assert_eq!(listed(&fixture, "ci").await.unwrap().tokens[0].used_at, Some(used));
    fixture.clock.advance(HOUR - 1);
    looks(&http).await.unwrap();
    fixture.clock.advance(1);
    let ended = looks(&http).await.unwrap_err();
    assert_eq!((ended.status, ended.body.code.as_str()), (401, "token_ended"));
    assert_eq!(listed(&fixture, "ci").await.unwrap().tokens[0].used_at, Some(used + HOUR - 1));

    let engine = fixture.engine.clone();
    tokio::task::spawn_blocking(move || engine.stop()).await.unwrap();
    let kept = fixture.reader().read(|view| view.tokens()).unwrap();
    let kept = kept.iter().find(|token| token.user.as_str() == "ci").unwrap();
    assert_eq!(kept.used_at, Some(used + HOUR - 1));
    // Of the token itself nothing is on the disk.
    let mut database = std::fs::read(fixture.directory.path().join("coordinator.db")).unwrap();
    database.extend(std::fs::read(fixture.directory.path().join("coordinator.db-wal")).unwrap_or_default());
    let has = |text: &str| database.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has(&made.id) && !has(&made.token) && !has(made.token.strip_prefix("orangery_").unwrap()));
}

#[tokio::test]
async fn a_user_has_at_most_a_hundred_tokens_and_with_one_less_room_for_another() {
    let fixture = Fixture::start().await;
    for name in ["ci", "kim"] {
        add(&fixture, name, Role::Operator).await.unwrap();
    }
    let first = token(&fixture, "ci", None).await.unwrap();
    for _ in 1..100 {
        token(&fixture, "ci", None).await.unwrap();
    }
    let refused = token(&fixture, "ci", None).await.unwrap_err();
    assert_eq!((refused.status, refused.body.code.as_str()), (422, "user_invalid"));
    assert!(refused.body.message.contains("at most 100 tokens; revoke one"), "{}", refused.body.message);
    assert_eq!(listed(&fixture, "ci").await.unwrap().tokens.len(), 100);
    token(&fixture, "kim", None).await.expect("others have room of their own");
    fixture.operator().post::<()>(&format!("/v1/tokens/{}/revoke", first.id), &()).await.unwrap();
    let short = token(&fixture, "ci", Some(60)).await.unwrap();
    assert_eq!(code(token(&fixture, "ci", None).await), denied_with(422, "user_invalid"));

    fixture.clock.advance(61);
    token(&fixture, "ci", None).await.expect("one that has ended makes room");
    let tokens = listed(&fixture, "ci").await.unwrap().tokens;
    assert!(tokens.len() == 100 && tokens.iter().all(|token| token.id != short.id));
    assert_eq!(code(token(&fixture, "ci", None).await), denied_with(422, "user_invalid"));
}

#[tokio::test]
async fn the_owner_stays_as_the_owner_is_and_what_makes_no_sense_is_refused() {
    let fixture = Fixture::start().await;
    let owner = listed(&fixture, "owner").await.unwrap();
    assert_eq!((owner.role, owner.tokens.len()), (Role::Admin, 1));
    let operator = fixture.operator();
    let fixed = denied_with(409, "owner_fixed");
    assert_eq!(code(operator.post::<()>("/v1/users/owner/remove", &()).await), fixed);
    assert_eq!(
        code(operator.post::<UserView>("/v1/users/owner/role", &RoleRequest { role: Role::Viewer }).await),
        fixed
    );
    assert_eq!(code(token(&fixture, "owner", None).await), fixed);
    let id = &owner.tokens[0].id;
    assert_eq!(code(operator.post::<()>(&format!("/v1/tokens/{id}/revoke"), &()).await), fixed);
    for reserved in ["owner", "coordinator", "all"] {
        assert_eq!(code(add(&fixture, reserved, Role::Viewer).await), denied_with(422, "user_reserved"));
    }
    add(&fixture, "kim", Role::Viewer).await.unwrap();
    assert_eq!(code(add(&fixture, "kim", Role::Admin).await), denied_with(409, "user_taken"));
    assert_eq!(listed(&fixture, "kim").await.unwrap().role, Role::Viewer);
    let unknown = token(&fixture, "kin", None).await.unwrap_err();
    assert_eq!((unknown.status, unknown.body.code.as_str()), (404, "unknown_user"));
    assert!(unknown.body.message.contains("did you mean kim?"), "{}", unknown.body.message);
    assert_eq!(code(token(&fixture, "kim", Some(0)).await), denied_with(422, "user_invalid"));
    assert_eq!(code(token(&fixture, "kim", Some(400 * 86_400)).await), denied_with(422, "user_invalid"));
    assert_eq!(code(token(&fixture, "k..m", None).await), denied_with(422, "invalid_name"));
    assert_eq!(code(operator.post::<()>("/v1/tokens/nothing/revoke", &()).await), denied_with(404, "unknown_token"));
    // A name with which a path or a line could be forged is no name.
    let forged = serde_json::json!({"name": "a\nb", "role": "admin"});
    assert_eq!(code(operator.post::<UserView>("/v1/users", &forged).await), denied_with(400, "body_invalid"));
    let forged = serde_json::json!({"name": "kurt", "role": "root"});
    assert_eq!(code(operator.post::<UserView>("/v1/users", &forged).await), denied_with(400, "body_invalid"));
}

#[tokio::test]
async fn wrong_tokens_are_slowed_down_by_address_and_right_ones_from_there_are_not() {
    let fixture = Fixture::start().await;
    let guess = fixture.with_token("orangery_guess");
    for _ in 0..20 {
        assert_eq!(code(looks(&guess).await), denied_with(401, "token_wrong"));
    }
    assert_eq!(code(looks(&guess).await), denied_with(429, "too_many_failures"));
    looks(&fixture.operator()).await.unwrap();
    // Boards that join from there are not held up.
    fixture.join("garage").await;
    fixture.clock.advance(61);
    assert_eq!(code(looks(&guess).await), denied_with(401, "token_wrong"));
}

#[tokio::test]
async fn what_is_done_is_written_down_with_the_name_whose_token_it_was_whatever_the_request_says() {
    let fixture = Fixture::start().await;
    fixture.join("garage").await;
    let otto = fixture.user("otto", Role::Operator).await;
    // The field in which requests once said who asks is no field any more.
    let forged = serde_json::json!({"deed": {"by": "somebody else", "note": "being repaired"}});
    let refused = otto.post::<HoldView>("/v1/nodes/garage/hold", &forged).await;
    assert_eq!(code(refused), denied_with(400, "body_invalid"));
    let request = HoldRequest { app: None, expires_secs: None, deed: hold_note("being repaired") };
    let hold: HoldView = otto.post("/v1/nodes/garage/hold", &request).await.unwrap();
    assert_eq!(hold.deed.by, "otto");
    let request = HoldRequest { app: None, expires_secs: None, deed: hold_note("again") };
    let hold: HoldView = fixture.operator().post("/v1/nodes/garage/hold", &request).await.unwrap();
    assert_eq!(hold.deed.by, "owner");
}

fn hold_note(note: &str) -> orangery_wire::rest::DeedRequest {
    orangery_wire::rest::DeedRequest { note: Some(note.to_owned()) }
}
