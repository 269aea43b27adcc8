//! Everything that `doctor` can find, each with a stable word, how bad it is, why it matters and what to do.
//! `docs/operating/doctor.md` has the same table; a test keeps them equal.

use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// All is well.
    Ok,
    /// Worth knowing; nothing need be done.
    Note,
    /// A person should act, in days.
    Warning,
    /// A person should act now.
    Bad,
}

impl Level {
    /// The word in every listing.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

/// What is known of a code.
#[derive(Debug)]
pub struct Entry {
    /// The stable word.
    pub word: &'static str,
    /// How bad it is.
    pub level: Level,
    /// Why it matters.
    pub why: &'static str,
    /// What to do.
    pub fix: &'static str,
}

macro_rules! codes {
    ($($variant:ident $word:literal $level:ident $why:literal $fix:literal)*) => {
        /// A finding's stable code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $why] $variant,)*
        }

        impl Code {
            /// All of them, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// What is known of it.
            pub fn entry(self) -> &'static Entry {
                match self {
                    $(Self::$variant => &Entry { word: $word, level: Level::$level, why: $why, fix: $fix },)*
                }
            }
        }
    };
}

codes! {
    NotLooked "not_looked" Note
        "Something could not be looked at, so nothing is said about it."
        "Run it as root: `sudo orangery-agent doctor`; if a look took too long, run it again when the node is less busy."
    SettingsInvalid "settings_invalid" Bad
        "An agent does not start with settings that it does not understand."
        "Correct the file and key that are named, then `systemctl restart orangery-agent`."
    NotJoined "not_joined" Warning
        "A node that belongs to no coordinator is told nothing and installs nothing."
        "`orangery node invite` on the coordinator prints a token; `orangery-agent join TOKEN` here uses it."
    IdentityDamaged "identity_damaged" Bad
        "Without its key and certificate the agent does not start, and the coordinator knows nobody else as this node."
        "Restore `identity/` from a copy of this node; without one, remove it and join by another name (damaged-state.md)."
    CertificateExpires "certificate_expires" Warning
        "The certificate should have renewed itself long before; soon the broker refuses it."
        "See that the agent runs and reaches the coordinator's HTTPS port; the renewal is then made by itself."
    CertificateExpired "certificate_expired" Warning
        "The broker refuses an expired certificate. What runs goes on, and the renewal is still possible."
        "Let the node reach the coordinator's HTTPS port: it renews the certificate there by itself."
    AgentStopped "agent_stopped" Bad
        "While the agent does not run nothing new comes here, and apps that are its children are not watched."
        "`systemctl start orangery-agent`; `journalctl -u orangery-agent -n 50` says why it ended."
    AgentSilent "agent_silent" Bad
        "The agent is there and does not answer: it hangs, mostly on a disk that does."
        "Look at `dmesg` for errors of the disk; then `systemctl restart orangery-agent`. Apps go on meanwhile."
    AgentOther "agent_other_version" Note
        "The agent that runs is not of the version of this program."
        "`systemctl restart orangery-agent` when convenient; before that, what it says may differ from its manual."
    NotConnected "not_connected" Warning
        "The agent does not reach its coordinator: what runs goes on, and nothing new is heard of."
        "The findings about the network below say where it ends; see network.md."
    EventsWaiting "events_waiting" Note
        "Many events wait for the coordinator; when the outbox is full the oldest are dropped."
        "They are sent by themselves when the coordinator is reached."
    AppRefused "app_refused" Warning
        "The release that is desired was refused here and is not tried again in this generation."
        "`orangery-agent why` shows what was seen of it; mend the release and deploy it anew (bad-release.md)."
    AppUnhealthy "app_unhealthy" Bad
        "The app's own probes fail, and it is the proven release: nothing goes back by itself."
        "Look at the app's log; `orangery-agent rollback APP` goes back to the release before, without a network."
    AppNotRunning "app_not_running" Bad
        "A proven release should run and does not."
        "`orangery-agent history` says how it ended; under systemd `systemctl status orangery-APP` does too."
    AppRevoked "app_revoked" Warning
        "The owner has revoked what runs here, perhaps because it is not safe."
        "Deploy another release to this node."
    StateOpen "state_open" Bad
        "Others than the agent's user can change what decides which release runs."
        "`chmod go-w` the directory that is named, and give it to the user whom the agent runs as."
    Invariant "invariant" Bad
        "Something in the state directory is not as it must be at any moment, whatever happened before."
        "`orangery-agent check` lists all; damaged-state.md says for each what mends itself and what does not."
    NoTrustRoot "no_trust_root" Bad
        "Without a trust root no release can be verified, so nothing installs."
        "Restore `trust/` from a copy of this node, or join again with the key that is there (damaged-state.md)."
    TrustDamaged "trust_damaged" Bad
        "The trusted metadata cannot be read, so nothing new installs. What runs goes on."
        "Restore `trust/` from a copy of this node; see damaged-state.md. Never take it from another node."
    TrustExpired "trust_expired" Warning
        "Expired metadata blocks new releases. What runs goes on."
        "Let the node reach its coordinator, or bring a fresh bundle; if it stays: expired-metadata.md."
    TrustExpires "trust_expires" Note
        "The trusted metadata expires within a week; the coordinator signs it anew each day."
        "See that the coordinator runs and is reached; see expired-metadata.md."
    StoreFailed "store_failed" Bad
        "The agent cannot read its events, so the coordinator does not hear what happens here."
        "Look at the disk; if that is well, stop the agent, move `store/` away and start it: a new one is made."
    StoreSetAside "store_set_aside" Note
        "A store that did not open was set aside and a new one made; events that had not been sent are lost."
        "Nothing need be done; when it has been looked at, remove `store/*.damaged`."
    ClockUnsynced "clock_unsynced" Note
        "Nobody vouches for the clock. Expiry is judged by the latest time that is certain."
        "Enable a time service: `timedatectl set-ntp true`, or systemd-time-wait-sync beside another one (clock.md)."
    ClockBehind "clock_behind" Warning
        "The clock is behind what is known to have passed; the latest time that is certain is used instead."
        "Let the node reach a time server; a board without a battery needs one at each start (clock.md)."
    ClockAhead "clock_ahead" Warning
        "The clock is years ahead of all that was signed, and nobody vouches for it: certificates seem expired."
        "Set it: `timedatectl set-time`, or let the node reach a time server (clock.md)."
    DiskFull "disk_full" Bad
        "There is no room for a release; going back and reporting live on the reserve."
        "Free some: old logs, the app's own data, packages. disk-full.md says what the agent does by itself."
    DiskLow "disk_low" Warning
        "Little room is left; a large release may be refused with `no_space`."
        "Free some, or use a larger disk; see disk-full.md."
    InodesLow "inodes_low" Warning
        "The file system can hold few more files, whatever its free bytes."
        "Find the directory with very many small files (`du --inodes -x /`) and clear it."
    ReserveMissing "reserve_missing" Warning
        "The reserve is not whole: on a full disk going back and reporting may fail."
        "Free some space; the agent makes the reserve whole again by itself."
    DiskReadOnly "disk_read_only" Bad
        "The file system is mounted read-only: nothing can be saved. The kernel does that after errors of the disk."
        "Look at `dmesg`; check the file system from another system, or replace the card (sd-card-failing.md)."
    DiskErrors "disk_errors" Bad
        "The file system has counted errors: the card or disk loses what was written."
        "Save what matters, then replace the card and join again (sd-card-failing.md)."
    FlashWorn "flash_worn" Warning
        "The flash says that most of its life is used up."
        "Replace the card or module before it fails (sd-card-failing.md)."
    MemoryLow "memory_low" Warning
        "Little memory is left; the kernel may end apps, or the agent."
        "See what uses it (`ps aux --sort -rss`); set `memory_bytes_max` in the app's manifest."
    TooHot "too_hot" Warning
        "The board is so hot that it slows down, and ages."
        "Give it air or a heat sink; look for a process that is always busy."
    PowerWeak "power_weak" Warning
        "The board's firmware has seen too low a voltage since it started: cards and disks lose writes by that."
        "Use the power supply that the board's maker names, with a short cable."
    NoRoute "no_route" Warning
        "The kernel knows no way out of this node."
        "Look at the cable or the Wi-Fi (`ip address`, `ip route`) and at what gives out addresses (network.md)."
    NameUnresolved "name_unresolved" Warning
        "The coordinator's name has no address here."
        "Try `getent hosts NAME`; mend the resolver, or invite nodes with the coordinator's address (network.md)."
    Unreachable "unreachable" Warning
        "No connection to the coordinator's port."
        "See that `orangery serve` runs there, and that no firewall closes the port (network.md)."
    TlsFailed "tls_failed" Warning
        "Something answers that is not this node's coordinator, or not with a certificate that its CA has signed."
        "If the coordinator was made anew, restore its CA; else somebody is in between (network.md)."
    CertificateRefused "certificate_refused" Warning
        "The coordinator does not accept this node's certificate: the node was revoked, or the certificate expired."
        "`orangery node list` on the coordinator; a node that was revoked joins again by another name (lost-or-stolen-node.md)."
    NoSystemd "no_systemd" Note
        "There is no systemd here, so nothing of ours starts the agent at boot, or watches over it."
        "See that something else starts `orangery-agent run` at boot and whenever it ends."
    NoUnit "no_unit" Note
        "systemd knows no unit `orangery-agent.service`: the agent was started in another way."
        "Install the unit that is shipped (agent/systemd) to have it started at boot and watched over."
    UnitDisabled "unit_disabled" Warning
        "The agent's unit is not enabled: after a reboot nothing watches over the apps."
        "`systemctl enable --now orangery-agent`."
    UnitFailed "unit_failed" Bad
        "systemd has given up, or waits, with the agent's unit."
        "`journalctl -u orangery-agent -n 50` says why; then `systemctl restart orangery-agent`."
    UnitRestarts "unit_restarts" Warning
        "systemd had to start the agent again and again since the boot."
        "`journalctl -u orangery-agent -n 200` says why it ended each time."
    NoWatchdog "no_watchdog" Note
        "An agent that hangs is not restarted: its unit has no watchdog."
        "Install the unit that is shipped (agent/systemd), or set `WatchdogSec=3min` in a drop-in."
    AppUnitMissing "app_unit_missing" Bad
        "A proven release has no unit that starts it at boot."
        "`systemctl restart orangery-agent` writes it anew; look at its log if it does not."
    AppUnitDisabled "app_unit_disabled" Bad
        "The unit of a proven release is not enabled, so it does not start at boot."
        "`systemctl restart orangery-agent` enables it; do not disable it by hand, but deploy nothing instead."
    UnitLeftover "unit_leftover" Warning
        "There is a unit of ours for an app that this node has no proven release of."
        "If nothing should run there: `systemctl disable --now UNIT`, and remove its file."
    TrialLeftover "trial_leftover" Warning
        "A unit or drop-in of a trial is there, and no trial is under way."
        "`systemctl restart orangery-agent` removes it; so does a reboot."
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.entry().word)
    }
}
