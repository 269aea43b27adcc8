//! What of all that stands in the audit log.

use orangery_wire::rest::{AuditEntry, AuditPage, Role, UserView};

use super::fixture::{Fixture, code, denied_with};

pub async fn entries(fixture: &Fixture) -> Vec<AuditEntry> {
    let page: AuditPage = fixture.operator().get("/v1/audit?limit=1000").await.unwrap();
    page.entries.iter().map(|line| serde_json::from_str(&line.entry).unwrap()).collect()
}

/// What is written down, without what users did to be there.
pub async fn deeds(fixture: &Fixture) -> Vec<String> {
    let said = |entry: AuditEntry| format!("{} {} {} {}", entry.who, entry.deed, entry.object, entry.outcome);
    let is_of_interest = |entry: &AuditEntry| !matches!(entry.deed.as_str(), "user.add" | "token.make");
    entries(fixture).await.into_iter().filter(is_of_interest).map(said).collect()
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
