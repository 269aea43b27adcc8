//! The API over real HTTPS on loopback: who may ask for what, releases in, deployments out, files with ranges, events as
//! they come.

#![allow(clippy::unwrap_used)] // A test stops at the first surprise.

#[path = "../fixture/mod.rs"]
mod fixture;

mod events;
mod releases;

use std::collections::BTreeSet;
use std::time::Duration;

use fixture::{
    Fixture, Http, TOKEN, app, app_report, code, csr, denied, denied_with, eventually, node, online, reference,
    reported, tls,
};
use orangery::api::audience::Audience;
use orangery::api::{openapi, routes};
use orangery::ca::{Ca, NODE_DAYS};
use orangery::sha256::digest;
use orangery_wire::AppName;
use orangery_wire::messages::{Desired, Health, Refusal, RefusalCode};
use orangery_wire::rest::{
    DeedRequest, DeployRequest, InviteRequest, JoinRequest, JoinResponse, NodeView, Plan, RenewRequest, RenewResponse,
    Status, Why,
};
use orangery_wire::topics::Channel;
use rcgen::KeyPair;
use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn deploy(version: &str, to: &str) -> DeployRequest {
    DeployRequest {
        app: app(),
        version: Some(version.parse().unwrap()),
        to: to.into(),
        plan: None,
        deed: DeedRequest::default(),
    }
}

#[tokio::test]
async fn an_expired_certificate_opens_nothing_but_its_own_renewal() {
    let fixture = Fixture::start().await;
    let key = KeyPair::generate().unwrap();
    let long_ago = fixture.clock.now() - (NODE_DAYS + 1) * 86_400;
    let expired = fixture.ca.issue_node(&node("garage"), &csr(&key), long_ago).unwrap();
    assert!(expired.not_after < fixture.clock.now());
    let http = fixture.with_certificate(&expired.pem, &key);
    let digest = "a".repeat(64);
    for path in ["/metadata/timestamp.json", "/targets/greeter/1.0.0/x", &format!("/blobs/{digest}")] {
        assert_eq!(code(http.get::<()>(path).await), denied_with(403, "certificate_expired"), "{path}");
    }
    let renewed: RenewResponse = http.post("/v1/renew", &RenewRequest { csr_pem: csr(&key) }).await.unwrap();
    let http = fixture.with_certificate(&renewed.certificate_pem, &key);
    assert_eq!(code(http.get::<()>("/metadata/timestamp.json").await), denied_with(404, "not_found"));
    fixture.operator().post::<()>("/v1/nodes/garage/revoke", &()).await.unwrap();
    let old = fixture.with_certificate(&expired.pem, &key);
    let refused = old.post::<RenewResponse>("/v1/renew", &RenewRequest { csr_pem: csr(&key) }).await;
    assert_eq!(code(refused), denied_with(403, "revoked"));
}

#[tokio::test]
async fn a_certificate_of_another_ca_or_for_another_use_does_not_get_through_tls() {
    let fixture = Fixture::start().await;
    let key = KeyPair::generate().unwrap();
    let now = fixture.clock.now();
    let foreign = Ca::create(now).unwrap().issue_node(&node("garage"), &csr(&key), now).unwrap();
    let server = fixture.ca.issue_server(&["127.0.0.1".into()], now).unwrap();
    for (certificate, key) in [(foreign.pem, key.serialize_pem()), (server.certificate.pem, server.key_pem)] {
        let http = Http::over(tls(fixture.ca.certificate_pem(), Some((&certificate, &key))), &fixture.url, Some(TOKEN));
        assert!(http.request(Method::GET, "/healthz").send().await.is_err());
    }
    // And a server of another CA is not believed by clients.
    let other = Ca::create(now).unwrap();
    let http = Http::over(tls(other.certificate_pem(), None), &fixture.url, None);
    assert!(http.request(Method::GET, "/healthz").send().await.is_err());
}

#[tokio::test]
async fn what_is_not_a_route_is_answered_in_the_same_form() {
    let fixture = Fixture::start().await;
    let operator = fixture.operator();
    assert_eq!(code(operator.get::<()>("/v1/nothing").await), denied_with(404, "not_found"));
    assert_eq!(code(operator.post::<()>("/v1/status", &()).await), denied_with(405, "method_not_allowed"));
    assert_eq!(code(operator.get::<()>("/v1/nodes/..%2F..%2Fetc").await), denied_with(404, "unknown_node"));
    assert_eq!(code(operator.post::<()>("/v1/invites", &"no").await), denied_with(400, "body_invalid"));
    let large = "x".repeat(100_000);
    assert_eq!(code(operator.post::<()>("/v1/invites", &large).await), denied_with(413, "body_too_large"));
    assert_eq!(code(operator.get::<()>("/v1/events?after=x").await), denied_with(422, "invalid_query"));
    assert_eq!(code(operator.get::<()>("/v1/events?before=1").await), denied_with(422, "invalid_query"));
    assert_eq!(code(operator.get::<()>("/v1/events?after=1&newest=1").await), denied_with(422, "invalid_query"));
    let response = operator.request(Method::GET, "/v1/status").send().await.unwrap();
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert_eq!(response.headers()["cache-control"], "no-store");
}

#[test]
fn the_openapi_document_in_docs_is_the_one_that_the_code_makes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let text = openapi::text();
    if std::env::var_os("ORANGERY_WRITE_OPENAPI").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == text,
        "docs/openapi.json is out of date; write it with ORANGERY_WRITE_OPENAPI=1 cargo test -p orangery --test api openapi"
    );
}

#[test]
fn the_openapi_document_has_every_route_with_its_audience_and_no_other() {
    let document: serde_json::Value = serde_json::from_str(&openapi::text()).unwrap();
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let schemes = operation["security"].as_array().cloned().unwrap_or_default();
            let schemes: Vec<_> = schemes.iter().flat_map(|s| s.as_object().unwrap().keys().cloned()).collect();
            described.insert((method.to_uppercase(), path.clone(), schemes.join(",")));
        }
    }
    let exists = routes().into_iter().map(|route| {
        let schemes = match route.audience {
            Audience::Anyone => "",
            Audience::Viewer | Audience::Operator | Audience::Admin => "operator,session",
            Audience::ViewerOrScraper => "operator,scraper,session",
            Audience::Node | Audience::NodeEvenExpired => "node",
            Audience::NodeOrViewer | Audience::NodeOrOperator => "node,operator,session",
        };
        (route.method.to_string(), route.path.to_owned(), schemes.to_owned())
    });
    assert_eq!(described, exists.collect());
}

#[tokio::test]
async fn of_a_hundred_boards_that_join_at_once_with_one_token_exactly_one_gets_a_certificate() {
    let fixture = Fixture::start().await;
    let invite = fixture.invite(Some("garage"), 1).await;
    let stranger = fixture.stranger();
    let joins = (0..100).map(|_| {
        let request = JoinRequest {
            secret: invite.secret.clone(),
            name: Some("any".into()),
            csr_pem: csr(&KeyPair::generate().unwrap()),
        };
        let stranger = stranger.clone();
        async move { stranger.post::<JoinResponse>("/v1/join", &request).await }
    });
    let joined = futures_util::future::join_all(joins).await;
    let (good, bad): (Vec<_>, Vec<_>) = joined.into_iter().partition(Result::is_ok);
    assert_eq!(good.len(), 1);
    assert!(bad.into_iter().all(|bad| code(bad) == denied_with(403, "token_used")));
}

#[tokio::test]
async fn a_join_gives_what_a_board_needs_and_guessing_is_slowed_down() {
    let fixture = Fixture::start().await;
    let invite = fixture.invite(Some("garage"), 1).await;
    assert_eq!((&invite.url, invite.ca), (&fixture.url, fixture.ca.fingerprint()));
    assert_eq!(invite.secret.len(), 43, "32 bytes in base64url");
    let (http, _, joined) = fixture.join("attic").await;
    assert_eq!((joined.node.as_str(), joined.mqtt.as_str()), ("attic", "127.0.0.1:8883"));
    assert_eq!(joined.root.as_bytes(), fixture.owner.lock().unwrap().root);
    assert_eq!(
        http.request(Method::GET, "/metadata/1.root.json").send().await.unwrap().text().await.unwrap(),
        joined.root
    );

    let stranger = fixture.stranger();
    let key = KeyPair::generate().unwrap();
    let guess = |secret: &str, csr_pem: String| JoinRequest { secret: secret.into(), name: Some("x".into()), csr_pem };
    for broken in ["", "junk", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"] {
        let refused = stranger.post::<()>("/v1/join", &guess("guess", broken.into())).await;
        assert_eq!(code(refused), denied_with(422, "request_invalid"));
    }
    for _ in 0..20 {
        let refused = stranger.post::<()>("/v1/join", &guess("guess", csr(&key))).await;
        assert_eq!(code(refused), denied_with(403, "token_unknown"));
    }
    let refused = stranger.post::<()>("/v1/join", &guess("guess", csr(&key))).await;
    assert_eq!(code(refused), denied_with(429, "too_many_failures"));
    fixture.clock.advance(60);
    let request = JoinRequest { secret: invite.secret, name: None, csr_pem: csr(&key) };
    let _: JoinResponse = stranger.post("/v1/join", &request).await.unwrap();
}

#[tokio::test]
async fn a_deployment_is_planned_applied_and_explained() {
    let fixture = Fixture::start().await;
    let operator = fixture.operator();
    fixture.join("garage").await;
    let garage = node("garage");
    let release = reference(&fixture.publish("1.0.0").await);
    fixture.engine.hear(orangery::link::LinkEvent::Up).await.unwrap();
    fixture.say(&garage, Channel::Online, online(true)).await;
    fixture.report(&reported(&garage, 1, vec![])).await;
    let health = Health { memory_bytes: 7, ..Health::default() };
    fixture.say(&garage, Channel::Health, serde_json::to_vec(&health).unwrap()).await;

    let shown = async || operator.get::<NodeView>("/v1/nodes/garage").await.unwrap();
    eventually("all of that is known", async || shown().await.reported.map(drop)).await;

    let plan: Plan = operator.post("/v1/deployments/plan", &deploy("1.0.0", "all")).await.unwrap();
    assert!(plan.steps[0].changes && plan.steps[0].online && plan.steps[0].generation == 0);
    let apply = DeployRequest { plan: Some(plan.mark), ..deploy("1.0.0", "all") };
    let applied: Plan = operator.post("/v1/deployments", &apply).await.unwrap();
    assert_eq!(applied.steps[0].generation, 1);
    assert_eq!(code(operator.post::<Plan>("/v1/deployments", &apply).await), denied_with(409, "plan_changed"));
    let desired: Desired = fixture.record.value(&garage, Channel::Desired).unwrap();
    assert_eq!(desired.apps[0].release.as_ref(), Some(&release));

    let why: Why = operator.get("/v1/nodes/garage/why").await.unwrap();
    assert_eq!(why.lines[0].code, "not_taken_in");
    let refusal = Refusal { release: release.id, code: RefusalCode::NoSpace, reason: "9 bytes are missing".into() };
    let mut app_report = app_report(1, Some(&release), None);
    app_report.refusal = Some(refusal);
    fixture.report(&reported(&garage, 2, vec![app_report])).await;
    let why = eventually("it is explained", async || {
        let why: Why = operator.get("/v1/nodes/garage/why").await.unwrap();
        (why.lines[0].code == "no_space").then_some(why)
    });
    assert!(why.await.lines[0].text.contains("9 bytes are missing"));

    let status: Status = operator.get("/v1/status").await.unwrap();
    assert!(status.broker_connected && status.nodes.len() == 1);
    let shown = shown().await;
    assert!(shown.online && shown.health.as_ref().is_some_and(|health| health.memory_bytes == 7));
    assert_eq!(shown.desired[0].version.as_ref().unwrap().to_string(), "1.0.0");
    assert_eq!(status.nodes[0], shown);
    assert_eq!(operator.get::<Vec<NodeView>>("/v1/nodes").await.unwrap(), status.nodes);
}

#[tokio::test]
async fn a_deployment_of_what_is_not_there_is_refused_with_what_there_is() {
    let fixture = Fixture::start().await;
    let operator = fixture.operator();
    assert_eq!(
        code(operator.post::<Plan>("/v1/deployments/plan", &deploy("1.0.0", "all")).await),
        denied_with(404, "unknown_app")
    );
    fixture.publish("1.0.0").await;
    assert_eq!(
        code(operator.post::<Plan>("/v1/deployments", &deploy("1.0.0", "all")).await),
        denied_with(422, "no_nodes")
    );
    fixture.join("garage").await;
    for path in ["/v1/deployments/plan", "/v1/deployments"] {
        let denied = async |request: &DeployRequest| operator.post::<Plan>(path, request).await.unwrap_err();
        let unknown = denied(&deploy("1.0.0", "garag")).await;
        assert_eq!((unknown.status, unknown.body.code.as_str()), (404, "unknown_node"));
        assert!(unknown.body.message.contains("did you mean garage?") && unknown.body.next.is_some());
        assert_eq!(denied(&deploy("1.0.0", "site=moon")).await.body.code, "unknown_label");
        assert_eq!(denied(&deploy("1.0.0", "a b")).await.body.code, "invalid_selector");
        let version = denied(&deploy("2.0.0", "garage")).await;
        assert!(version.body.message.contains("published are 1.0.0"), "{}", version.body.message);
        let other: AppName = "greter".parse().unwrap();
        let app = denied(&DeployRequest { app: other, ..deploy("1.0.0", "garage") }).await;
        assert!(app.body.message.contains("did you mean greeter?"), "{}", app.body.message);
    }
    let not_semver = serde_json::json!({"app": "greeter", "version": "one", "to": "all"});
    assert_eq!(code(operator.post::<Plan>("/v1/deployments", &not_semver).await), denied_with(400, "body_invalid"));
}

async fn code_of(response: reqwest::Response) -> String {
    denied(response).await.body.code
}

#[tokio::test]
async fn silent_connections_do_not_keep_others_out() {
    let fixture = Fixture::start().await;
    let address = fixture.url.strip_prefix("https://").unwrap();
    let mut silent = Vec::new();
    for n in 0..300 {
        let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
        if n % 3 == 0 {
            // The beginning of a TLS record, and then nothing.
            connection.write_all(&[0x16, 3, 1, 2]).await.unwrap();
        }
        silent.push(connection);
    }
    let operator = fixture.operator();
    let polls = (0..100).map(|_| operator.request(Method::GET, "/v1/status").send());
    for answer in futures_util::future::join_all(polls).await {
        assert!(answer.unwrap().status().is_success());
    }
    // One address does not get all places: of a thousand, half.
    for _ in 0..300 {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let mut last = silent.pop().unwrap();
    let end = tokio::time::timeout(Duration::from_secs(10), last.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "it is turned away at once");
}

#[tokio::test]
async fn an_invite_is_answered_once_and_kept_as_a_hash_alone() {
    let fixture = Fixture::start().await;
    let request = InviteRequest { name: None, expires_secs: 60, uses: 1 };
    let invite: orangery_wire::rest::InviteResponse = fixture.operator().post("/v1/invites", &request).await.unwrap();
    assert_eq!(invite.expires_at, fixture.clock.now() + 60);
    let hash = digest(invite.secret.as_bytes()).to_string();
    let mut found = false;
    for entry in std::fs::read_dir(fixture.directory.path()).unwrap() {
        let Ok(bytes) = std::fs::read(entry.unwrap().path()) else { continue };
        let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!has(&invite.secret), "the secret is on the disk");
        found |= has(&hash);
    }
    assert!(found, "its hash is not");
}
