//! Probes asked of real sockets and programs.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod apps;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use apps::{PATIENCE, app, eventually, release, runs};
use orangery_agent::launch::Life;
use orangery_agent::probe::{self, ProbeContext};
use orangery_wire::Manifest;
use orangery_wire::manifest::{Check, Probe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};

/// An app's side of a probe: answers each connection with what `answer` makes of its number, and then closes it.
struct Server {
    at: SocketAddr,
    asked: Arc<AtomicUsize>,
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BAD: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 17\r\n\r\ndatabase is gone\n";

impl Server {
    async fn start(answer: impl Fn(usize) -> &'static str + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, answer)
    }

    fn on(listener: TcpListener, answer: impl Fn(usize) -> &'static str + Send + 'static) -> Self {
        let (at, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let n = count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(reply(stream, answer(n)));
            }
        });
        Self { at, asked }
    }

    fn http(&self) -> Probe {
        let port = self.at.port().to_string();
        quick(Check::Http { port, path: "/health".into() })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn reply(mut stream: TcpStream, answer: &str) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_buf(&mut head).await {
            Ok(1..) => {}
            _ => return,
        }
    }
    assert!(head.starts_with(b"GET /health HTTP/1.1\r\n"));
    let _ = stream.write_all(answer.as_bytes()).await;
    if answer.is_empty() {
        std::future::pending::<()>().await;
    }
}

fn quick(check: Check) -> Probe {
    Probe { check, interval_ms: 40, timeout_ms: 5_000, start_delay_ms: 0, successes: 1, failures: 3 }
}

fn exec(words: &[&str]) -> Probe {
    quick(Check::Exec { command: words.iter().map(|word| (*word).to_owned()).collect() })
}

/// A port that is taken but that nobody listens on yet.
fn silent_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

fn manifest(probes: Vec<Probe>, soak_secs: u64) -> Manifest {
    Manifest { probes, soak_secs, ..apps::manifest(1) }
}

struct App {
    life: watch::Sender<Life>,
    data: tempfile::TempDir,
}

impl App {
    fn new() -> Self {
        let life = Life { release: Some(release(1)), ..Life::default() };
        Self { life: watch::Sender::new(life), data: tempfile::tempdir().unwrap() }
    }

    fn context(&self) -> ProbeContext {
        let variables = [("ORANGERY_APP".to_owned(), app().to_string())].into();
        let data = self.data.path().to_owned();
        ProbeContext { variables, tree: "/tree".into(), data, life: self.life.subscribe() }
    }

    async fn prove(&self, manifest: &Manifest) -> Result<(), String> {
        tokio::time::timeout(PATIENCE, probe::prove(manifest, &self.context())).await.expect("it never ends")
    }

    async fn refused(&self, probe: Probe) -> String {
        self.prove(&manifest(vec![probe], 0)).await.unwrap_err()
    }
}

#[tokio::test]
async fn a_good_answer_proves_a_release() {
    for answer in [OK, "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.0 302 Found\r\nlocation: /\r\n\r\n"] {
        let server = Server::start(move |_| answer).await;
        // So long that even a starved machine does not ask a second time.
        let probe = Probe { interval_ms: 5_000, ..server.http() };
        assert_eq!(App::new().prove(&manifest(vec![probe], 0)).await, Ok(()));
        assert_eq!(server.asked(), 1);
    }
}

#[tokio::test]
async fn bad_answers_are_counted_one_by_one_and_quoted() {
    let server = Server::start(|_| BAD).await;
    let port = server.at.port();
    let reason = App::new().refused(server.http()).await;
    let said = "failed 3 times in a row: status 500 Internal Server Error: database is gone";
    assert_eq!(reason, format!("GET http://127.0.0.1:{port}/health {said}"));
}

#[tokio::test]
async fn an_app_that_begins_to_listen_is_found_well_before_the_interval_is_over() {
    let (socket, port) = silent_port();
    let mut probe = quick(Check::Tcp { port: port.to_string() });
    (probe.interval_ms, probe.failures) = (10_000, 1);
    let (app, manifest) = (App::new(), manifest(vec![probe], 0));
    let begin = Instant::now();
    let listens = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        socket.listen(1).unwrap()
    };
    let (proven, _listener) = tokio::join!(app.prove(&manifest), listens);
    assert_eq!(proven, Ok(()));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn an_app_that_never_listens_has_one_interval_and_then_every_failure_that_it_is_allowed() {
    let begin = Instant::now();
    let (_socket, port) = silent_port();
    let reason = App::new().refused(quick(Check::Tcp { port: port.to_string() })).await;
    assert!(reason.contains("failed 3 times in a row: Connection refused"), "{reason}");
    // One interval of patience, and two between the three answers that count.
    assert!(begin.elapsed() >= Duration::from_millis(3 * 40), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn failures_count_only_after_the_start_delay() {
    let begin = Instant::now();
    let server = Server::start(move |_| if begin.elapsed() < Duration::from_millis(300) { BAD } else { OK }).await;
    let mut probe = server.http();
    (probe.start_delay_ms, probe.failures) = (60_000, 1);
    assert_eq!(App::new().prove(&manifest(vec![probe], 0)).await, Ok(()));
    assert!(server.asked() > 3, "it was asked all the time");
}

#[tokio::test]
async fn answers_that_are_no_answers_are_bad() {
    let endless_head: &'static str = Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(100_000)).into());
    for (answer, why) in [
        ("", "no answer within 60 ms"),
        ("garbage\r\n\r\n", "no HTTP answer"),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "status 404 Not Found"),
        ("HTTP/1.1 999 What\r\ncontent-length: 0\r\n\r\n", "status 999"),
        (endless_head, "no HTTP answer"),
    ] {
        let server = Server::start(move |_| answer).await;
        let mut probe = server.http();
        probe.timeout_ms = 60;
        let reason = App::new().refused(probe).await;
        assert!(reason.contains(why), "{reason}");
    }
}

#[tokio::test]
async fn a_good_answer_may_have_a_body_without_end() {
    let server = Server::start(|_| "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nbegin").await;
    assert_eq!(App::new().prove(&manifest(vec![server.http()], 0)).await, Ok(()));
}

#[tokio::test]
async fn what_cannot_be_asked_says_so() {
    for (port, why) in [("${PORT}", "\"PORT\""), ("http", "\"http\" is not a port"), ("0", "is not a port")] {
        let reason = App::new().refused(quick(Check::Tcp { port: port.into() })).await;
        assert!(reason.contains(why), "{reason}");
    }
}

#[tokio::test]
async fn a_command_that_exits_with_0_is_a_good_answer() {
    let app = App::new();
    let script = "test \"$ORANGERY_APP\" = greeter && test \"$ORANGERY_TREE\" = /tree && test \"$(pwd)\" = \"$1\"";
    let data = app.data.path().canonicalize().unwrap();
    let probe = exec(&["/bin/sh", "-c", script, "sh", data.to_str().unwrap()]);
    assert_eq!(app.prove(&manifest(vec![probe], 0)).await, Ok(()));
}

#[tokio::test]
async fn a_command_that_fails_is_quoted() {
    let reason =
        App::new().refused(exec(&["/bin/sh", "-c", "yes | head -c 300000; echo; echo no disk >&2; exit 3"])).await;
    assert!(reason.contains("exit status 3: ") && reason.ends_with("| no disk"), "{reason}");
    assert!(reason.len() < 1_024, "{}", reason.len());
    let reason = App::new().refused(exec(&["check"])).await;
    assert!(reason.contains("cannot start /tree/check"), "{reason}");
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed_with_all_that_it_started() {
    let app = App::new();
    let mut probe = exec(&["/bin/sh", "-c", "sleep 1000 & echo $! >> pids; sleep 1000"]);
    (probe.timeout_ms, probe.failures) = (300, 1);
    let reason = app.refused(probe).await;
    assert!(reason.contains("no answer within 300 ms"), "{reason}");
    let pids = std::fs::read_to_string(app.data.path().join("pids")).unwrap();
    for pid in pids.lines().map(|line| line.parse().unwrap()) {
        eventually("it is gone", || (!runs(pid)).then_some(())).await;
    }
}

#[tokio::test]
async fn a_command_whose_child_keeps_its_output_open_is_not_waited_for() {
    let begin = Instant::now();
    let probe = exec(&["/bin/sh", "-c", "sleep 1000 &"]);
    assert_eq!(App::new().prove(&manifest(vec![probe], 0)).await, Ok(()));
    assert!(begin.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_release_must_hold_through_its_soak() {
    let server = Server::start(|_| OK).await;
    let begin = Instant::now();
    assert_eq!(App::new().prove(&manifest(vec![server.http()], 1)).await, Ok(()));
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert!(server.asked() > 5, "it was asked all the time");
}

#[tokio::test]
async fn a_release_that_falls_ill_during_its_soak_is_refused() {
    let server = Server::start(|n| if n < 3 { OK } else { BAD }).await;
    let reason = App::new().prove(&manifest(vec![server.http()], 60)).await.unwrap_err();
    assert!(reason.contains("status 500"), "{reason}");
    assert_eq!(server.asked(), 6);
}

#[tokio::test]
async fn every_probe_must_hold() {
    let (good, bad) = (Server::start(|_| OK).await, Server::start(|_| BAD).await);
    let reason = App::new().prove(&manifest(vec![good.http(), bad.http()], 0)).await.unwrap_err();
    assert!(reason.contains(&bad.at.port().to_string()), "{reason}");
}

#[tokio::test]
async fn an_app_that_keeps_exiting_is_refused_at_once() {
    let server = Server::start(|_| OK).await;
    let app = App::new();
    let (manifest, fall) = (manifest(vec![server.http()], 60), async {
        eventually("it is asked", || (server.asked() > 0).then_some(())).await;
        app.life.send_modify(|life| life.failed = Some("exited 4 times".into()));
    });
    let (proven, ()) = tokio::join!(app.prove(&manifest), fall);
    assert_eq!(proven, Err("exited 4 times".into()));
}

#[tokio::test]
async fn an_app_without_probes_is_proven_by_staying_up() {
    let mut manifest = manifest(vec![], 0);
    manifest.run.restart.uptime_min_secs = 1;
    let begin = Instant::now();
    assert_eq!(App::new().prove(&manifest).await, Ok(()));
    assert!(begin.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_watch_tells_changes_only() {
    // Well, one slip that does not count, ill, well again.
    let server = Server::start(|n| if matches!(n, 3 | 6..10) { BAD } else { OK }).await;
    let (app, (tell, mut told)) = (App::new(), mpsc::unbounded_channel());
    let context = app.context();
    let manifest = manifest(vec![server.http()], 0);
    let watching = probe::watch(
        &manifest,
        &context,
        move |well, reason| drop(tell.send((well, reason))),
        |took| {
            assert!(took < PATIENCE);
        },
    );
    let listen = async {
        assert_eq!(told.recv().await, Some((true, None)));
        let (well, reason) = told.recv().await.unwrap();
        assert!(!well && reason.as_ref().is_some_and(|reason| reason.contains("3 times")), "{reason:?}");
        assert_eq!(told.recv().await, Some((true, None)));
        assert!(server.asked() >= 11);
    };
    tokio::select! {
        () = watching => panic!("it ended"),
        listened = tokio::time::timeout(PATIENCE, listen) => listened.unwrap(),
    }
}

#[tokio::test]
async fn a_watch_without_probes_tells_whether_the_app_runs() {
    let (app, (tell, mut told)) = (App::new(), mpsc::unbounded_channel());
    let context = app.context();
    let manifest = manifest(vec![], 0);
    let watching = probe::watch(
        &manifest,
        &context,
        move |well, _| {
            let _ = tell.send(well);
        },
        |_| panic!("there is no probe that could take time"),
    );
    tokio::select! {
        () = watching => panic!("it ended"),
        well = told.recv() => assert_eq!(well, Some(true)),
    }
}
