//! The agent inside the machine: a runner that is told what to do, step by step.

use std::fs;
use std::path::Path;

use orangery_agent::launch::Launch;
use orangery_agent::layout::Layout;
use orangery_agent::runner::Preference;
use orangery_wire::limits::EVIDENCE_LINES_MAX;
use orangery_wire::manifest::{Run, Runner};

use crate::apps::{PATIENCE, World, app, launch, release};

/// Words that systemd, a shell or a careless writer of units would read as something else.
pub const AWKWARD: [&str; 12] = [
    "",
    "two words",
    "\"quoted\" 'twice'",
    "back\\slash\\",
    "%n %% %h",
    "$HOME $$ $1",
    ";",
    "a;b",
    "tab\there",
    "line\nExecStart=/bin/false",
    "# no comment",
    "ä€🍊",
];

/// A variable's value is not expanded again, so it may have anything in it.
pub fn awkward_value() -> String {
    format!("{}\n${{HOME}}", AWKWARD.join("\n"))
}

/// Says which version was started, and stays.
const STAYS: &str = "echo $ORANGERY_VERSION >> starts; exec sleep 1000";
const EXITS: &str = "echo $ORANGERY_VERSION >> starts; echo cannot open the port >&2; exit 7";
/// As [`EXITS`], but the third time when it is told to.
const WAITS: &str = "echo $ORANGERY_VERSION >> starts; test $(wc -l < starts) -lt 3 && exit 7
    until test -e go; do sleep 0.02; done; echo the third time; exit 7";
const ARGUMENTS: &str = "printf '%s\\0' \"$@\" > new; mv new arguments; exec sleep 1000";
const REPORTS: &str = "{ test $(id -u) = 0 && echo root || echo user\n\
    touch /etc/written 2>/dev/null && echo etc || echo no etc\n\
    ls /var/lib/orangery/identity >/dev/null 2>&1 && echo identity || echo no identity\n\
    awk '/^NoNewPrivs/ { print \"no new privileges \" $2 } /^CapBnd/ { print \"capabilities \" $2 }' /proc/self/status\n\
    echo end; } > report-$ORANGERY_VERSION; exec sleep 1000";

/// Release `n`: each has a program of its own kind.
fn describe(layout: &Layout, n: u8) -> Launch {
    let unchanged = |_: &mut Run| ();
    // As the driver does it.
    fs::create_dir_all(layout.data(&app())).unwrap();
    match n {
        3 => launch(layout, n, EXITS, unchanged),
        4 => launch(layout, n, "", |run| run.exec = vec!["/nonexistent".into()]),
        5 => launch(layout, n, ARGUMENTS, |run| {
            run.exec.extend(AWKWARD.map(str::to_owned));
            run.env.insert("AWKWARD".into(), awkward_value());
        }),
        6 => launch(layout, n, REPORTS, unchanged),
        7 => launch(layout, n, REPORTS, |run| run.sandbox = false),
        8 => launch(layout, n, STAYS, |run| run.runner = Runner::Process),
        9 => launch(layout, n, WAITS, unchanged),
        _ => launch(layout, n, STAYS, unchanged),
    }
}

/// What an agent of the tests does; on its own it tests nothing.
#[tokio::test]
#[ignore = "is the agent inside the machine of the other tests"]
async fn an_agent_inside() {
    let Ok(steps) = std::env::var("ORANGERY_TEST_STEPS") else { return };
    let mut world = World::new(Path::new("/var/lib/orangery"), Preference::Auto);
    for step in steps.split("; ") {
        let said = match step.split_once(' ').map(|(deed, n)| (deed, n.parse().unwrap())) {
            Some((deed, n)) => with_release(&world, deed, n).await,
            None => alone(&mut world, step).await,
        };
        println!("> {}", said.replace('\n', " "));
    }
}

async fn with_release(world: &World, deed: &str, n: u8) -> String {
    let launch = describe(&world.layout, n);
    let done = match deed {
        "trial" => world.runners.run(&app(), Some(launch)).await,
        "proven" => world.runners.run(&app(), Some(Launch { trial: false, ..launch })).await,
        "commit" => world.runners.commit(&app(), release(n)).await,
        "link" => link(world, n).map_err(|error| error.to_string()),
        "running" => {
            let mut life = world.runners.life(&app());
            let runs = life.wait_for(|life| life.release == Some(release(n)));
            tokio::time::timeout(PATIENCE, runs).await.map(drop).map_err(|_| "it does not run".to_owned())
        }
        other => panic!("no such step: {other}"),
    };
    done.map_or_else(|reason| reason, |()| "done".to_owned())
}

async fn alone(world: &mut World, deed: &str) -> String {
    match deed {
        "stop" => world.runners.run(&app(), None).await.map_or_else(|reason| reason, |()| "done".to_owned()),
        "pid" => std::process::id().to_string(),
        "exit" => {
            let exit = world.exit().await;
            format!("{}, {} in a row", exit.reason, exit.restarts)
        }
        "failed" => {
            let mut life = world.runners.life(&app());
            let failed = life.wait_for(|life| life.failed.is_some());
            let failed = tokio::time::timeout(PATIENCE, failed).await.expect("it does not fail").unwrap();
            failed.failed.clone().unwrap()
        }
        // What the driver keeps of a refused release.
        "evidence" => {
            let exit = world.runners.life(&app()).borrow().exit.clone().unwrap_or_default();
            let output = world.runners.last_output(&app(), EVIDENCE_LINES_MAX).await;
            format!("{exit}; {}", String::from_utf8_lossy(&output))
        }
        "memory" => match world.runners.memory_bytes(&app()) {
            Some(bytes) if (1..64 << 20).contains(&bytes) => "done".to_owned(),
            other => format!("it holds {other:?} bytes"),
        },
        "hold" => std::future::pending().await,
        other => panic!("no such step: {other}"),
    }
}

/// As the driver does it: the link is moved before the commit.
fn link(world: &World, n: u8) -> std::io::Result<()> {
    let (link, beside) = (world.layout.current(&app()), world.layout.app(&app()).join("current.new"));
    std::os::unix::fs::symlink(format!("releases/{}", release(n)), &beside)?;
    fs::rename(beside, link)
}
