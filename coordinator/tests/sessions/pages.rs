//! Pages of others: what a browser sends with a cookie is done only if a page of ours has asked for it.

use orangery::api::cookie::{CSRF, NAME};
use orangery::api::{audience::Audience, routes};
use orangery_wire::rest::{Role, RoleRequest, SessionView, SignInRequest, Status, UserView};
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, COOKIE, HeaderName, ORIGIN};

use super::fixture::browser::{Browser, PASSWORD};
use super::fixture::{Fixture, code, code_of, denied_with};
use super::written::deeds;
use super::{NEW_PASSWORD, SEC_FETCH_SITE};

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
async fn of_two_cookies_none_counts_though_each_of_them_would() {
    let fixture = Fixture::start().await;
    let (admin, other) = (fixture.browser("ada", Role::Admin).await, fixture.browser("otto", Role::Admin).await);
    let sign_in = SignInRequest { user: "otto".into(), password: PASSWORD.into() };
    for second in [&admin, &other] {
        let (one, two) = (format!("{NAME}={}", admin.secret), format!("{NAME}={}", second.secret));
        let in_one = vec![format!("{one}; {two}")];
        for cookies in [in_one, vec![one.clone(), two.clone()], vec![two, one]] {
            for csrf in [&admin.csrf, &second.csrf] {
                let mut http = fixture.stranger();
                for cookie in &cookies {
                    http.headers.append(COOKIE, cookie.parse().unwrap());
                }
                http.headers.insert(CSRF, csrf.parse().unwrap());
                http.headers.insert(ORIGIN, fixture.url.parse().unwrap());
                let ended = denied_with(401, "session_ended");
                assert_eq!(code(http.get::<Status>("/v1/status").await), ended, "{cookies:?}");
                assert_eq!(code(http.post::<()>("/v1/users/otto/sessions/end", &()).await), ended, "{cookies:?}");
                // They keep nobody from signing in, and what one of them opens does not end by it.
                let _: SessionView = http.post("/v1/session", &sign_in).await.unwrap();
            }
        }
    }
    assert!(admin.is_in().await && other.is_in().await);
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
