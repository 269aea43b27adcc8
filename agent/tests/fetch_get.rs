//! One origin, both ends of it certified, and small files from it.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod origin;

use std::time::Duration;

use orangery_agent::fetch::{FetchError, Http, Patience};
use origin::{Authority, Origin, Trick};

const PATH: &str = "/file";
const SIZE: usize = 100_000;

struct World {
    authority: Authority,
    origin: Origin,
}

impl World {
    async fn new() -> Self {
        let authority = Authority::new();
        let origin = Origin::start(&authority).await;
        origin.put(PATH, vec![7; SIZE]);
        Self { authority, origin }
    }

    fn http(&self) -> Http {
        Http::with_patience(&self.origin.url, self.authority.node("attic"), brisk()).unwrap()
    }
}

fn brisk() -> Patience {
    Patience { stall: Duration::from_millis(300), stall_bytes: 1_000, ..Patience::default() }
}

#[tokio::test]
async fn small_files_are_bounded_and_may_be_absent() {
    let world = World::new().await;
    let http = world.http();
    assert_eq!(http.get("/metadata/2.root.json", 100).await.unwrap(), None);
    world.origin.put("/small", "hello");
    assert_eq!(http.get("/small", 5).await.unwrap().unwrap(), b"hello");
    for trick in [Trick::Honest, Trick::Longer(0)] {
        world.origin.play([trick]);
        let error = http.get("/small", 4).await.unwrap_err();
        assert!(matches!(error, FetchError::TooLong { bytes_max: 4, .. }) && !error.again(), "{error}");
    }
    for trick in [Trick::CutAfter(3), Trick::StallAfter(3), Trick::Trickle, Trick::Status(500)] {
        world.origin.put("/small", vec![b'x'; 900]);
        world.origin.play([trick]);
        let error = http.get("/small", 1_000).await.unwrap_err();
        assert!(error.again(), "{error}");
    }
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let world = World::new().await;
    let http = world.http();
    for _ in 0..5 {
        http.get("/absent", 100).await.unwrap();
        http.get(PATH, SIZE as u64).await.unwrap().unwrap();
    }
    assert_eq!(world.origin.connections(), 1);
}

#[tokio::test]
async fn both_ends_must_be_of_the_pinned_authority() {
    let world = World::new().await;
    let other = Authority::new();
    for (who, tls) in [
        ("an origin of another authority", other.node("attic")),
        ("a client without a certificate", world.authority.stranger()),
    ] {
        let http = Http::with_patience(&world.origin.url, tls, brisk()).unwrap();
        let error = http.get(PATH, SIZE as u64).await.unwrap_err();
        assert!(matches!(error, FetchError::Request { .. }) && error.again(), "{who}: {error}");
    }
    assert_eq!(world.origin.seen(), []);
}

#[tokio::test]
async fn nobody_listening_is_no_reason_to_refuse() {
    let world = World::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    drop(listener);
    let http = Http::with_patience(&url, world.authority.node("attic"), brisk()).unwrap();
    let error = http.get(PATH, 1).await.unwrap_err();
    assert!(error.again(), "{error}");
}
#[tokio::test]
async fn a_path_cannot_lead_to_another_origin() {
    let world = World::new().await;
    let elsewhere = Origin::start(&world.authority).await;
    let host = elsewhere.url.strip_prefix("https://").unwrap();
    for path in [format!("@{host}/x"), host.to_owned(), String::new(), "\r\nX: y".into(), "/a b".into()] {
        let error = world.http().get(&path, 1).await.unwrap_err();
        assert!(matches!(error, FetchError::Address { .. }) && !error.again(), "{error}");
    }
    let got = world.http().get(&format!("//{host}/x"), 1).await.unwrap();
    assert_eq!((got, elsewhere.connections()), (None, 0));
}
