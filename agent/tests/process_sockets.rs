//! Sockets that the agent holds for its children, and passes to them.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod apps;

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use apps::{World, app, eventually, launch, release, runs};
use orangery_agent::launch::Launch;
use orangery_agent::runner::Preference;
use orangery_wire::manifest::Socket;

/// Says its number and stays; it never accepts.
const STAYS: &str = "echo $$ > new; mv new pid; exec sleep 1000";

fn world() -> (tempfile::TempDir, World) {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new(directory.path(), Preference::Process);
    (directory, world)
}

/// An address that was free a moment ago, below the range from which the kernel gives ports to connections. No two tests
/// are given the same.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = std::process::id() + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + u16::try_from(u64::from(n) * 7_919 % 12_000).unwrap();
        if let Ok(free) = TcpListener::bind(("127.0.0.1", port)) {
            return free.local_addr().unwrap();
        }
    }
}

/// Release `n`, for which sockets are held.
fn passed(world: &World, n: u8, script: &str, sockets: &[(&str, SocketAddr)]) -> Launch {
    launch(&world.layout, n, script, |run| {
        let socket =
            |(name, address): &(&str, SocketAddr)| Socket { name: name.parse().unwrap(), listen: address.to_string() };
        run.sockets = sockets.iter().map(socket).collect();
    })
}

/// Whether a connection that nobody has accepted is still waiting, and was not reset.
fn waits(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Waits until nothing is held at `address`. Another test may be starting a program just now, which has all of this process's
/// descriptors until it is executed.
async fn refused(address: SocketAddr) {
    eventually("nothing is held any more", || TcpStream::connect(address).is_err().then_some(())).await;
}

#[tokio::test]
async fn an_app_is_passed_its_sockets_and_told_their_names() {
    let (_keep, world) = world();
    let says = "echo $LISTEN_FDS $LISTEN_FDNAMES $(test $LISTEN_PID = $$ && echo mine) \
                $(readlink /proc/$$/fd/3 /proc/$$/fd/4 | cut -d: -f1) > new; mv new said; exec sleep 1000";
    let (http, admin) = (free_address(), free_address());
    world.run(passed(&world, 1, says, &[("http", http), ("admin", admin)])).await;
    assert_eq!(world.said("said").await, "2 http:admin mine socket socket");
    for address in [http, admin] {
        assert!(TcpStream::connect(address).is_ok());
    }
    world.runners.run(&app(), None).await.unwrap();
    refused(http).await;
}

#[tokio::test]
async fn whoever_connected_waits_through_restarts_switches_and_the_agents_end() {
    let (_keep, mut world) = world();
    let http = free_address();
    world.run(passed(&world, 1, STAYS, &[("http", http)])).await;
    let mut client = TcpStream::connect(http).unwrap();
    // The app dies and is started again.
    let pid = world.number("pid").await;
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
    world.exit().await;
    let pid = world.number("pid").await;
    assert!(waits(&mut client));
    // Another release takes its place.
    world.run(passed(&world, 2, STAYS, &[("http", http)])).await;
    assert!(!runs(pid) && waits(&mut client));
    let pid = world.number("pid").await;
    // The agent is gone; the next one finds the app, and then runs another release.
    let next = World::new(world.layout.root(), Preference::Process);
    drop(world);
    next.run(passed(&next, 2, STAYS, &[("http", http)])).await;
    assert!(runs(pid));
    next.run(passed(&next, 1, STAYS, &[("http", http)])).await;
    eventually("release 1 runs", || (next.runners.running(&app()) == Some(release(1))).then_some(())).await;
    assert!(!runs(pid) && waits(&mut client));
    let pid = next.number("pid").await;
    // Once more, and this agent is told to run another release at once.
    let last = World::new(next.layout.root(), Preference::Process);
    drop(next);
    last.run(passed(&last, 2, STAYS, &[("http", http)])).await;
    assert!(!runs(pid) && waits(&mut client));
    last.runners.stop_all().await;
}

#[tokio::test]
async fn a_release_has_its_own_sockets_and_none_of_the_one_before() {
    let (_keep, world) = world();
    let (one, other) = (free_address(), free_address());
    world.run(passed(&world, 1, STAYS, &[("http", one)])).await;
    world.run(passed(&world, 2, STAYS, &[("http", other)])).await;
    refused(one).await;
    assert!(TcpStream::connect(other).is_ok());
    world.run(passed(&world, 3, STAYS, &[])).await;
    refused(other).await;
    world.run(passed(&world, 1, STAYS, &[("http", one)])).await;
    assert!(TcpStream::connect(one).is_ok());
    world.runners.stop_all().await;
    refused(one).await;
}

#[tokio::test]
async fn a_program_that_is_not_there_and_an_address_that_is_taken_are_known_at_once() {
    let (_keep, world) = world();
    let http = free_address();
    let mut missing = passed(&world, 1, STAYS, &[("http", http)]);
    std::fs::remove_file(missing.tree.join("bin/app")).unwrap();
    let refused = world.runners.run(&app(), Some(missing.clone())).await.unwrap_err();
    assert!(refused.contains("there is no such file"), "{refused}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    missing = passed(&world, 2, STAYS, &[("http", taken.local_addr().unwrap())]);
    let refused = world.runners.run(&app(), Some(missing)).await.unwrap_err();
    assert!(refused.contains("cannot listen on") && refused.contains("http"), "{refused}");
    let twice = passed(&world, 3, STAYS, &[("http", http), ("admin", http)]);
    let refused = world.runners.run(&app(), Some(twice)).await.unwrap_err();
    assert!(refused.contains("one address"), "{refused}");
}
