//! What `--help` says.

/// Of the program.
pub(super) const HELP: &str = "\
Keeps this node on one proven release of each app, by itself.

Usage: orangery-agent [OPTIONS] COMMAND

Commands:
  join TOKEN       Enrol this node with a token from `orangery node invite`
  run              Serve until SIGTERM
  status           What runs here, and whether the coordinator is reached
  why [APP]        Why each app is where it is, and what was seen of one that was refused
  history          What happened here last
  metrics          How it is, for Prometheus
  doctor           What is wrong with this node, and what to do about it
  check            Are the invariants of the state directory kept?
  rollback APP     Go back to the release that ran before the current one
  install SOURCE   Install a release from a file, a USB stick or a web server
  completions SH   A completion script for bash, zsh or fish

Options:
  --config FILE    Settings (default: /etc/orangery/agent.toml)
  --json           Answer in JSON (status, why, history, doctor, check, install)
  -h, --help       This, or help on a command
  -V, --version    The version

Exit codes: 0 done, 1 error, 2 the command line is not understood; of `install` also 11 not trusted, 12 expired,
13 not brought here, 60 no space, 110 refused and rolled back, 130 the roll-back failed.
";

const JOIN_HELP: &str = "\
Enrol this node.

Usage: orangery-agent join TOKEN [--name NAME] [--config FILE]

The node makes its own key, which never leaves it, checks that the coordinator is the one that made the token, and
gets a certificate. TOKEN is the line that `orangery node invite` prints; `-` reads it from standard input, so that
it stands in no process list. Joining again is refused; a join that was cut is simply run again.

Options:
  --name NAME      The name that the node would like, unless the invite has one (default: the host name)
  --config FILE    Settings (default: /etc/orangery/agent.toml)
";

const RUN_HELP: &str = "\
Serve until SIGTERM or SIGINT.

Usage: orangery-agent run [--config FILE]

Starts what was proven last, at once and without the network; then connects to the coordinator and does what is
desired. Power may go at any moment.
";

const STATUS_HELP: &str = "\
What runs here, and whether the coordinator is reached.

Usage: orangery-agent status [--json] [--config FILE]

Works when the agent does not run, too: then it reads the disk.
";

const WHY_HELP: &str = "\
Why each app is where it is: what is desired, what runs, what is waited for, and why a release was refused.

Usage: orangery-agent why [APP] [--json] [--config FILE]

Of a release that was refused by its trial, its last output and the last answers to its probes are shown; they are kept
in apps/APP/refused.json of the state directory. Works when the agent does not run, too: then it reads the disk.
";

const HISTORY_HELP: &str = "\
What happened here last, oldest first.

Usage: orangery-agent history [--count N] [--json] [--config FILE]

Options:
  --count N        At most so many events (default: 50)
  --json           One JSON object a line
";

const METRICS_HELP: &str = "\
How this node is, in Prometheus' text format; docs/operating/monitoring.md lists what is in it.

Usage: orangery-agent metrics [--out FILE] [--config FILE]

Works when the agent does not run, too: then it reads the disk.

Options:
  --out FILE       Replace FILE in one step instead of printing; for the textfile collector of node-exporter. Best in /run:
                   what is written every minute wears a card out
  --config FILE    Settings (default: /etc/orangery/agent.toml)
";

const DOCTOR_HELP: &str = "\
What is wrong with this node, and what to do about it. Changes nothing, and takes a quarter of a minute at most.

Usage: orangery-agent doctor [--bundle FILE [--with-app-logs]] [--json] [--config FILE]

Looks at the settings, the agent that runs and its apps, certificate and trust, store and state directory, disk, flash,
clock, memory, heat, the way to the coordinator, and systemd. Each finding has a stable code, says why it matters and
what to do; docs/operating/doctor.md lists all. Run it as root: else it says what it could not look at.

Options:
  --bundle FILE    Also write a support bundle: one text file with all of this, status, history, records and the agent's
                   log. Keys, tokens and values of apps' variables are not in it. FILE must not be there yet
  --with-app-logs  Have the apps' last output in it, too
  --json           Findings as JSON
  --config FILE    Settings (default: /etc/orangery/agent.toml)

Exit codes: 0 nothing needs a person, 1 something does (a warning or worse) or the bundle cannot be written.
";

const CHECK_HELP: &str = "\
Are the invariants of the state directory kept? Reads only; works beside a running agent.

Usage: orangery-agent check [--state DIR] [--json] [--config FILE]

Exits with 1 when one is violated, and says which.
";

const ROLLBACK_HELP: &str = "\
Go back to the release that ran before the current one.

Usage: orangery-agent rollback APP [--config FILE]

Needs no network. The node stays there until something newer is deployed to it.
";

const INSTALL_HELP: &str = "\
Install a release by another road than the coordinator.

Usage: orangery-agent install SOURCE [APP@VERSION] [--config FILE]
       orangery-agent install APP@VERSION --from SOURCE [--ca-file FILE] [--config FILE]

SOURCE is a file that `orangery bundle` made, a directory that `orangery repo export` made (a USB stick, a share), or
the https:// address of a web server with such a directory. APP@VERSION may be left out if a file or directory has
one release only.

The release is judged as one from the coordinator is, by the same metadata, expiry and floors: nothing here makes that
weaker. Then it is tried, and goes back if it does not hold. It stays until something newer is deployed to the node.
The agent must be running; no network is needed for a file or directory. Ctrl-C ends the watching, not the work.

Options:
  --from SOURCE    Where the release is
  --ca-file FILE   The authorities that may vouch for the web server, in PEM (default: those of the system)
  --json           The outcome in JSON
  --config FILE    Settings (default: /etc/orangery/agent.toml)

Exit codes: 0 it is current, 1 error, 11 not trusted (unverified, revoked, below the floor, no trust root),
12 expired, 13 not brought here, 60 no space, 110 refused by its trial and rolled back, 130 the roll-back failed.
";

/// Of one command.
pub(super) fn help_on(command: &str) -> Result<&'static str, lexopt::Error> {
    match command {
        "join" => Ok(JOIN_HELP),
        "run" => Ok(RUN_HELP),
        "status" => Ok(STATUS_HELP),
        "why" => Ok(WHY_HELP),
        "history" => Ok(HISTORY_HELP),
        "metrics" => Ok(METRICS_HELP),
        "doctor" => Ok(DOCTOR_HELP),
        "check" => Ok(CHECK_HELP),
        "rollback" => Ok(ROLLBACK_HELP),
        "install" => Ok(INSTALL_HELP),
        "completions" | "help" => Ok(HELP),
        other => Err(format!("there is no command {other:?}").into()),
    }
}
