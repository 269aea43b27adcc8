//! Passwords: who sets them, what they must be, and what whoever does not know one learns.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use orangery_wire::rest::{OwnPasswordRequest, PasswordRequest, Role, UserView};
use reqwest::StatusCode;
use reqwest::header::SET_COOKIE;

use super::NEW_PASSWORD;
use super::fixture::browser::PASSWORD;
use super::fixture::{Fixture, Http, code, code_of, denied_with};
use super::written::{deeds, entries};

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
async fn whoever_guesses_a_users_password_keeps_the_user_out_nowhere_that_they_are_signed_in() {
    let fixture = Fixture::start().await;
    let kim = fixture.browser("kim", Role::Viewer).await;
    fixture.add_with_password("lee", Role::Viewer).await;
    let [guesser, elsewhere] = [2, 3].map(|host| Http::at(&fixture, Ipv4Addr::new(127, 0, 0, host)));
    let must_wait = denied_with(429, "too_many_failures");
    for _ in 0..20 {
        assert_eq!(code_of(guesser.try_sign_in("kim", "guess").await).await, denied_with(401, "sign_in_wrong"));
    }
    assert_eq!(code_of(guesser.try_sign_in("lee", PASSWORD).await).await, must_wait, "whomever they try next");
    assert_eq!(code_of(elsewhere.try_sign_in("kim", PASSWORD).await).await, must_wait, "from wherever it is tried");
    assert!(elsewhere.try_sign_in("lee", PASSWORD).await.status().is_success(), "it is not lee who was tried");
    // At home kim goes on and can sign in again, for as long as they are signed in there.
    assert!(kim.is_in().await);
    let again = fixture.sign_in("kim").await;
    for browser in [kim, again] {
        browser.delete("/v1/session").await;
    }
    assert_eq!(code_of(fixture.try_sign_in("kim", PASSWORD).await).await, must_wait);
    fixture.clock.advance(61);
    fixture.sign_in("kim").await;
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
