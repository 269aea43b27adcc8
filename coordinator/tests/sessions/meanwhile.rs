//! Checking a password takes its time: what counts is whose it is when that is over.

use orangery::engine::{Actor, Refused, UserDeed};
use orangery::password::{Password, PasswordHash};
use orangery::sha256;
use orangery_wire::UserName;
use orangery_wire::rest::Role;
use tokio::task::JoinSet;

use super::NEW_PASSWORD;
use super::fixture::browser::PASSWORD;
use super::fixture::{Fixture, code_of, eventually};

fn kim() -> UserName {
    "kim".parse().unwrap()
}

fn by(who: &str) -> Actor {
    Actor { who: who.to_owned(), token: None, from: None }
}

fn hash(password: &str) -> PasswordHash {
    PasswordHash::of(&Password::choose(password.to_owned(), &kim()).unwrap()).unwrap()
}

/// What is kept of the password now.
fn kept(fixture: &Fixture) -> PasswordHash {
    fixture.reader().read(|view| view.password("kim")).unwrap().unwrap()
}

fn sessions(fixture: &Fixture) -> usize {
    fixture.reader().read(|view| view.sessions()).unwrap().len()
}

#[tokio::test]
async fn a_password_that_is_another_one_by_the_time_it_was_checked_opens_and_changes_nothing() {
    let fixture = Fixture::start().await;
    fixture.add_with_password("kim", Role::Operator).await;
    let sign_in = async |verified: PasswordHash| {
        let deed = UserDeed::SignIn { user: kim(), digest: sha256::digest(b"secret"), verified, address: None };
        fixture.engine.by(by("kim")).user(deed).await.map(drop)
    };
    let change = async |old: PasswordHash| {
        let deed = UserDeed::SetPassword { user: kim(), hash: hash(NEW_PASSWORD), old: Some(old) };
        fixture.engine.by(by("kim")).user(deed).await.map(drop)
    };
    let checked = kept(&fixture);
    fixture.set_password("kim", PASSWORD).await.unwrap();
    let set = kept(&fixture);
    assert_eq!(sign_in(checked.clone()).await, Err(Refused::PasswordChanged), "though it is the same password");
    assert_eq!(change(checked).await, Err(Refused::PasswordChanged));
    assert!(kept(&fixture) == set && sessions(&fixture) == 0);
    // Who was removed has none, and somebody else by the same name another one.
    fixture.operator().post::<()>("/v1/users/kim/remove", &()).await.unwrap();
    assert_eq!(sign_in(set.clone()).await, Err(Refused::PasswordChanged));
    fixture.add_with_password("kim", Role::Admin).await;
    assert_eq!(sign_in(set).await, Err(Refused::PasswordChanged));
    assert_eq!(sessions(&fixture), 0);
    assert_eq!((sign_in(kept(&fixture)).await, sessions(&fixture)), (Ok(()), 1));
    assert_eq!((change(kept(&fixture)).await, sessions(&fixture)), (Ok(()), 0));
}

/// So many at once that most of them wait to be checked when the password is changed.
#[tokio::test]
async fn nobody_is_signed_in_with_a_password_that_was_changed_while_they_were_signing_in() {
    let fixture = Fixture::start().await;
    fixture.add_with_password("kim", Role::Operator).await;
    let (old, new) = (kept(&fixture), hash(NEW_PASSWORD));
    let set = async |hash: &PasswordHash| {
        let deed = UserDeed::SetPassword { user: kim(), hash: hash.clone(), old: None };
        fixture.engine.by(by("owner")).user(deed).await.unwrap();
    };
    let round = async || {
        let stranger = fixture.stranger();
        let attempt = async |stranger: super::Http| stranger.try_sign_in("kim", PASSWORD).await;
        let mut attempts: JoinSet<_> = (0..16).map(|_| attempt(stranger.clone())).collect();
        let mut answers = vec![attempts.join_next().await.unwrap().unwrap()];
        set(&new).await;
        answers.extend(attempts.join_all().await);
        assert_eq!(sessions(&fixture), 0);
        let mut were_late = 0;
        for answer in answers.into_iter().filter(|answer| !answer.status().is_success()) {
            let (_, code) = code_of(answer).await;
            // A session may have begun, and ended with its password before its beginning was told.
            assert!(["password_changed", "sign_in_wrong", "session_ended"].contains(&code.as_str()), "{code}");
            were_late += usize::from(code == "password_changed");
        }
        set(&old).await;
        fixture.clock.advance(61);
        (were_late > 0).then_some(())
    };
    eventually("somebody is checked against the old one", round).await;
}
