//! Joining and renewing against a real HTTPS server that answers as it is told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod enrolment;

use std::sync::Arc;

use orangery_agent::disk::{Disk, RealDisk};
use orangery_agent::errors::chain;
use orangery_agent::identity::{self, JoinError};
use orangery_agent::tls;
use orangery_wire::token::Token;

use enrolment::board::{Board, first_certificate, told};
use enrolment::{Authority, Coordinator, ROOT, Reply, SECRET, sha256};

#[tokio::test]
async fn a_join_gives_the_node_a_key_of_its_own_a_certificate_and_whom_to_believe() {
    let coordinator = Coordinator::start().await;
    let board = Board::new();
    assert!(board.load().unwrap().is_none(), "nobody yet");
    let joined = board.join(&coordinator.token()).await.unwrap();
    assert_eq!((joined.node.as_str(), joined.mqtt.as_str()), ("attic", "127.0.0.1:8883"));
    assert_eq!(joined.url, coordinator.url);

    let [request] = &coordinator.joins()[..] else { panic!("one request") };
    assert_eq!((request.secret.as_str(), request.name.as_deref()), (SECRET, Some("attic")));
    let modes: Vec<_> = board.files().into_iter().map(|(name, mode, _)| (name, mode)).collect();
    let expected = [
        ("state/identity", 0o700),
        ("state/identity/ca.pem", 0o600),
        ("state/identity/coordinator.json", 0o600),
        ("state/identity/node.key", 0o600),
        ("state/identity/node.pem", 0o600),
        ("state/trust", 0o700),
        ("state/trust/1.root.json", 0o644),
        ("state/trust/root.json", 0o644),
    ];
    assert_eq!(modes[1..], expected.map(|(name, mode)| (name.to_owned(), mode)));
    let roots = board.files().into_iter().filter(|(name, ..)| name.ends_with("root.json"));
    assert!(roots.map(|(.., content)| content).all(|content| content == ROOT.as_bytes()));
    let secret_kept =
        board.files().iter().any(|(.., bytes)| bytes.windows(SECRET.len()).any(|w| w == SECRET.as_bytes()));
    assert!(!secret_kept, "the token is of no use any more, and is not kept");

    let loaded = board.load().unwrap().unwrap();
    assert_eq!((loaded.node, loaded.url, loaded.mqtt), (joined.node, joined.url, joined.mqtt));
}

#[tokio::test]
async fn joining_again_says_so_and_changes_nothing() {
    let coordinator = Coordinator::start().await;
    let board = Board::new();
    board.join(&coordinator.token()).await.unwrap();
    let before = board.files();
    let error = board.join(&coordinator.token()).await.unwrap_err();
    assert!(matches!(error, JoinError::AlreadyJoined { .. }));
    let text = told(&error);
    assert!(text.contains("already attic of https://127.0.0.1") && text.contains("state/identity"), "{text}");
    assert_eq!(board.files(), before);
    assert_eq!(coordinator.joins().len(), 1);
}

#[tokio::test]
async fn a_stranger_at_the_address_never_gets_the_secret() {
    let real = Arc::new(Authority::new());
    let (other, days) = (Authority::new(), (-1, 90));
    let (by_other, key) = other.server("127.0.0.1", days);
    // Another CA; no CA at all; the real CA's certificate, which anybody can have, over a certificate that it never signed;
    // and a node of the fleet that poses as the coordinator.
    let node_key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().serialize_request(&node_key);
    let node = first_certificate(real.node(&request.unwrap().pem().unwrap(), days).as_bytes());
    let chains = [
        (vec![by_other.clone(), other.der()], &key),
        (vec![by_other.clone()], &key),
        (vec![by_other, real.der()], &key),
        (vec![node, real.der()], &node_key),
    ];
    for (number, (chain, key)) in chains.into_iter().enumerate() {
        let coordinator = Coordinator::with(Arc::clone(&real), chain, key).await;
        let board = Board::new();
        let error = board.join(&coordinator.token()).await.unwrap_err();
        match number {
            3 => assert!(matches!(error, JoinError::BadCertificate { .. }), "{number}: {error:?}"),
            _ => assert!(told(&error).contains("is not the one that made this token"), "{number}: {error:?}"),
        }
        assert!(coordinator.joins().is_empty(), "{number}: nothing was sent");
        assert!(board.load().unwrap().is_none());
    }
}

#[tokio::test]
async fn the_servers_name_and_end_are_checked_but_not_its_beginning() {
    for (name, days, clue) in [
        ("127.0.0.1", (-20, -10), Some("expired")),
        ("coordinator.example", (-1, 90), Some("not valid for name")),
        // The board's clock is behind: the CA that the token names cannot have signed it in the future.
        ("127.0.0.1", (3_000, 4_000), None),
    ] {
        let authority = Arc::new(Authority::new());
        let (server, key) = authority.server(name, days);
        let chain = vec![server, authority.der()];
        let coordinator = Coordinator::with(authority, chain, &key).await;
        let board = Board::new();
        match (clue, board.join(&coordinator.token()).await) {
            (Some(clue), Err(error @ JoinError::BadCertificate { .. })) => assert!(told(&error).contains(clue)),
            (None, Ok(identity)) => {
                board.renew(&identity).await.unwrap();
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
                assert!(board.clock.now().abs_diff(now) < 60, "a certificate never moves the clock");
            }
            (_, other) => panic!("{name} {days:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn every_refusal_says_what_to_do_and_keeps_nothing_but_the_key() {
    let coordinator = Coordinator::start().await;
    let board = Board::new();
    for (reply, clue) in [
        (Reply::Error(401, "token_unknown"), "does not know this token; make a new one with `orangery node invite`"),
        (Reply::Error(401, "token_used"), "has been used already; make a new one"),
        (Reply::Error(401, "token_expired"), "has expired; make a new one"),
        (
            Reply::Error(409, "name_taken"),
            "does not give this node a name: no: [secret]; join with --name and another one",
        ),
        (Reply::Error(500, "internal"), "refuses: no: [secret] (internal); do that"),
        (Reply::Page(502), "refuses: it answers 502 Bad Gateway (http)"),
        (Reply::Page(200), "cannot read the answer"),
        (Reply::Bytes(1024 * 1024 + 1), "length limit exceeded"),
        (Reply::Cut, "broke off before the answer"),
        (Reply::Foreign, "a certificate that cannot be used: invalid peer certificate: BadSignature"),
        (Reply::OtherKey, "a certificate that cannot be used"),
        (Reply::OtherCa, "is not the one that made this token"),
        (Reply::OtherRoot, "a root of trust that is not the one of this token"),
    ] {
        coordinator.answer(reply);
        let error = board.join(&coordinator.token()).await.unwrap_err();
        let text = told(&error);
        assert!(text.contains(clue), "{clue}: {text}");
        assert_eq!(board.names(), ["state", "state/identity", "state/identity/node.key"], "{clue}");
        assert!(board.load().unwrap().is_none());
    }
    let key = board.content("node.key");
    coordinator.answer(Reply::Certificate((-1, 90)));
    board.join(&coordinator.token()).await.unwrap();
    assert_eq!(board.content("node.key"), key, "the key of the first attempt is used");
    let mut keys: Vec<_> = coordinator.joins().iter().map(|join| public_key(&join.csr_pem)).collect();
    keys.dedup();
    assert_eq!(keys.len(), 1, "the coordinator can tell that it was the same node all along");
}

fn public_key(csr_pem: &str) -> Vec<u8> {
    let request = rcgen::CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
    rcgen::PublicKeyData::subject_public_key_info(&request.public_key)
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let coordinator = Coordinator::start().await;
    let token = coordinator.token();
    let address = token.url.strip_prefix("https://").unwrap().to_owned();
    drop(coordinator);
    let board = Board::new();
    // The listener goes with the task that holds it.
    let error = loop {
        let error = board.join(&token).await.unwrap_err();
        if chain(&error).contains("refused") {
            break error;
        }
    };
    assert!(matches!(error, JoinError::Reach { .. }));
    let text = told(&error);
    assert!(text.contains(&address) && text.contains("check that it runs"), "{text}");
    let bad = Token { url: "http://127.0.0.1:1".to_owned(), ..token };
    let text = told(&board.join(&bad).await.unwrap_err());
    assert!(text.contains("must look like https://HOST:PORT"), "{text}");
}

#[tokio::test]
async fn a_join_cut_between_any_two_files_is_run_again_and_ends_as_if_never_cut() {
    let coordinator = Coordinator::start().await;
    let whole = Board::new();
    whole.join(&coordinator.token()).await.unwrap();
    let order = [
        "identity/node.key",
        "trust/root.json",
        "trust/1.root.json",
        "identity/ca.pem",
        "identity/node.pem",
        "identity/coordinator.json",
    ];
    for written in 0..order.len() {
        let board = Board::new();
        for dir in [board.layout.identity(), board.layout.trust()] {
            std::fs::create_dir_all(dir).unwrap();
        }
        for file in &order[..written] {
            std::fs::copy(whole.layout.root().join(file), board.layout.root().join(file)).unwrap();
        }
        assert!(board.load().unwrap().is_none(), "after {written} files it has not joined");
        let joined = board.join(&coordinator.token()).await.unwrap();
        assert!(written == 0 || board.content("node.key") == whole.content("node.key"));
        assert_eq!(board.load().unwrap().unwrap().node, joined.node);
    }
}

#[tokio::test]
async fn a_damaged_key_that_was_never_certified_is_replaced() {
    let coordinator = Coordinator::start().await;
    let board = Board::new();
    std::fs::create_dir_all(board.layout.identity()).unwrap();
    std::fs::write(board.layout.identity().join("node.key"), "half a k").unwrap();
    board.join(&coordinator.token()).await.unwrap();
    assert!(board.load().unwrap().is_some());
}

#[tokio::test]
async fn a_node_keeps_the_owner_whom_it_trusts() {
    let coordinator = Coordinator::start().await;
    let board = Board::new();
    board.join(&coordinator.token()).await.unwrap();
    // The owner's root has moved on since, and the identity was removed to join another coordinator.
    std::fs::write(board.layout.trust().join("root.json"), "newer root").unwrap();
    std::fs::remove_dir_all(board.layout.identity()).unwrap();
    let token = coordinator.token();
    let error = board.join(&Token { root: sha256(b"another owner"), ..token.clone() }).await.unwrap_err();
    assert!(told(&error).contains("trusts the root of another owner"), "{error}");
    board.join(&token).await.unwrap();
    assert_eq!(std::fs::read(board.layout.trust().join("root.json")).unwrap(), b"newer root", "it never goes back");
}

#[tokio::test]
async fn an_identity_that_does_not_hold_together_is_named_and_left_alone() {
    let coordinator = Coordinator::start().await;
    for (file, content) in [
        ("node.key", "no key".to_owned()),
        ("node.key", rcgen::KeyPair::generate().unwrap().serialize_pem()),
        ("node.pem", "no certificate".to_owned()),
        ("ca.pem", String::new()),
        ("coordinator.json", "{".to_owned()),
        ("coordinator.json", r#"{"format":2,"node":"attic","url":"","mqtt":""}"#.to_owned()),
    ] {
        let board = Board::new();
        board.join(&coordinator.token()).await.unwrap();
        std::fs::write(board.layout.identity().join(file), content).unwrap();
        let before = board.files();
        let text = told(&board.load().unwrap_err());
        assert!(text.contains("identity/"), "{file}: {text}");
        assert!(matches!(board.join(&coordinator.token()).await, Err(JoinError::ReadIdentity(_))), "{file}");
        assert_eq!(board.files(), before, "{file}");
    }
}

#[tokio::test]
async fn a_certificate_is_due_when_two_thirds_of_its_life_are_over() {
    const DAY: u64 = 86_400;
    let coordinator = Coordinator::start().await;
    // The last column: days from now when it becomes due.
    for (days, due_day) in [((0, 90), 60), ((-2_000, 90), 60), ((0, 3), 2), ((-60, 29), 0), ((-90, -1), 0)] {
        coordinator.answer(Reply::Certificate(days));
        let board = Board::new();
        let identity = board.join(&coordinator.token()).await.unwrap();
        let now = board.clock.now();
        assert!(identity.renewal_due(now + due_day * DAY + 60), "{days:?}");
        assert!(due_day == 0 || !identity.renewal_due(now + due_day * DAY - 60), "{days:?}");
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_new_configuration() {
    let coordinator = Coordinator::start().await;
    let board = Board::new();
    let identity = board.join(&coordinator.token()).await.unwrap();
    let old = first_certificate(&board.content("node.pem"));
    // What the link and the downloads have been given, long before.
    let config = tls::client_config(&identity, board.clock.clone());
    board.renew(&identity).await.unwrap();
    assert_eq!(coordinator.shown(), Some(old.clone()), "the old one asks for the new one");
    let new = first_certificate(&board.content("node.pem"));
    assert_ne!(old, new);
    let shown = config.client_auth_cert_resolver.resolve(&[], &[]).unwrap();
    assert_eq!(shown.cert.first(), Some(&new));
    assert_eq!(board.load().unwrap().unwrap().certificate().validity(), identity.certificate().validity());
    board.renew(&identity.clone()).await.unwrap();
    assert_eq!(coordinator.shown(), Some(new), "and that one asks for the next");
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_the_old_certificate() {
    let coordinator = Coordinator::start().await;
    let board = Board::new();
    let identity = board.join(&coordinator.token()).await.unwrap();
    let before = board.files();
    for (reply, clue) in [
        (Reply::Error(403, "revoked"), "refuses: no:"),
        (Reply::Page(502), "502"),
        (Reply::Cut, "broke off"),
        (Reply::Foreign, "cannot be used"),
        (Reply::OtherKey, "cannot be used"),
    ] {
        coordinator.answer(reply);
        let text = chain(&board.renew(&identity).await.unwrap_err());
        assert!(text.contains(clue), "{clue}: {text}");
        assert_eq!(board.files(), before);
    }
    coordinator.answer(Reply::Certificate((-1, 90)));
    board.renew(&identity).await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_kept_fresh_when_it_is_due_or_somebody_would_not_have_it() {
    let coordinator = Coordinator::start().await;
    for due in [true, false] {
        coordinator.answer(Reply::Certificate(if due { (-60, 1) } else { (-1, 80) }));
        let board = Board::new();
        let identity = board.join(&coordinator.token()).await.unwrap();
        assert_eq!(identity.renewal_due(board.clock.now()), due);
        coordinator.answer(Reply::Certificate((-1, 90)));
        if !due {
            identity.renew_soon();
        }
        let old = identity.certificate().validity();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let renewed = async {
            while identity.certificate().validity() == old {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = identity::keep_fresh(&disk, &board.layout, &identity, &board.clock) => {}
            done = tokio::time::timeout(std::time::Duration::from_secs(10), renewed) => done.unwrap(),
        }
    }
    assert_eq!(coordinator.renewals(), 2);
}
