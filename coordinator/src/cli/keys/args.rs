//! `orangery keys` on the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use orangery_wire::AppName;

/// `orangery keys`
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Show who can do what with which key, how long it holds, and what is staged
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Let one more key sign: a new one, or one that was made elsewhere
    Add {
        /// What it may sign
        role: Role,
        /// What to call it
        #[arg(long)]
        name: String,
        /// The public half of a key that was made elsewhere with `keys new`
        #[arg(long, value_name = "ed25519:HEX")]
        public: Option<String>,
        #[command(flatten)]
        staging: Staging,
    },
    /// Take a key's right to sign away
    Remove {
        /// What it may no longer sign
        role: Role,
        /// Its name, or the beginning of its id
        name: String,
        #[command(flatten)]
        staging: Staging,
    },
    /// Let one key sign the releases of one app, and of no other
    Delegate {
        /// The app
        app: AppName,
        /// What to call the role and its key [default: as the app]
        #[arg(long)]
        name: Option<AppName>,
        /// The public half of a key that was made elsewhere with `keys new` [default: a new key is made here]
        #[arg(long, value_name = "ed25519:HEX")]
        key: Option<String>,
    },
    /// End that: nodes take nothing any more that this key has signed
    Undelegate {
        /// The app
        app: AppName,
    },
    /// Replace a key by a new one
    Rotate {
        /// Which
        key: Rotated,
        #[command(flatten)]
        staging: Staging,
    },
    /// Sign root and targets anew, long before they expire
    Renew {
        #[command(flatten)]
        staging: Staging,
    },
    /// Have every new root signed by so many keys; 2 makes it 2 of 3
    ToThreshold {
        /// How many
        #[arg(value_parser = clap::value_parser!(u8).range(1..=5))]
        threshold: u8,
        #[command(flatten)]
        staging: Staging,
    },
    /// Sign a staged root: the one here, or a file that was brought from the owner's machine
    Sign {
        /// The file [default: the root that is staged here]
        file: Option<PathBuf>,
        /// A key file to sign with, besides those of the owner's directory
        #[arg(long = "key", value_name = "FILE")]
        keys: Vec<PathBuf>,
    },
    /// Publish what is staged; also goes on with what was cut short
    Publish {
        /// The staged root with signatures from elsewhere
        #[arg(long, value_name = "FILE")]
        signed: Option<PathBuf>,
    },
    /// Drop what is staged
    Abort,
    /// After the owner's machine was lost: new keys, with the recovery key
    Recover(RecoverArgs),
    /// Change the passphrase of the keys here
    Passphrase {
        #[command(flatten)]
        seal: SealArgs,
        /// A file with the new passphrase; --passphrase-file has the present one
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
    },
    /// Make a key in a file, and print its public half for `keys add --public`
    New {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        seal: SealArgs,
    },
    /// Make a new operator's token, on the coordinator's machine; the old one ends when the coordinator is started again
    OperatorToken,
    /// Make a token that opens GET /metrics and nothing else, in place of an earlier one; run it on the coordinator's machine
    MetricsToken,
}

/// What a key may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// New roots
    Root,
    /// Releases
    Targets,
}

/// What can be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rotated {
    /// The daily root key
    Root,
    /// The recovery key
    Recovery,
    /// The key that signs releases
    Targets,
    /// The coordinator's snapshot and timestamp keys
    Online,
}

/// How far a change goes at once.
#[derive(Debug, Clone, Args)]
pub struct Staging {
    /// A further key file to sign with, such as one on a stick
    #[arg(long = "key", value_name = "FILE")]
    pub keys: Vec<PathBuf>,
    /// Prepare and sign it, and stop before it is published
    #[arg(long)]
    pub stage: bool,
}

/// How keys are kept.
#[derive(Debug, Clone, Default, Args)]
pub struct SealArgs {
    /// Keep the keys without a passphrase: whoever can read the files has them
    #[arg(long)]
    pub no_passphrase: bool,
    /// For tests: memory that opening a key takes, in KiB, with one pass
    #[arg(long, hide = true, value_name = "KIB")]
    pub kdf_memory_kib: Option<u32>,
}

/// `orangery keys recover`
#[derive(Debug, Clone, Args)]
pub struct RecoverArgs {
    /// The recovery key; repeat it where a root needs more than one signature
    #[arg(long = "key", value_name = "FILE", required = true)]
    pub keys: Vec<PathBuf>,
    /// The first root, `1.root.json`, as it was kept [default: beside the recovery key]
    #[arg(long, value_name = "FILE")]
    pub first_root: Option<PathBuf>,
    /// The coordinator's address, https://HOST:PORT
    #[arg(long, value_name = "URL", requires_all = ["ca", "token_file"], required_unless_present = "metadata")]
    pub url: Option<String>,
    /// The certificate of the coordinator's CA: `ca.pem` in its directory
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// A file with the operator's token; `keys operator-token` makes a new one on the coordinator's machine
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A kept copy of the public metadata, if the coordinator cannot be reached; `keys publish` then comes later
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    pub metadata: Option<PathBuf>,
    /// What the lost root keys are called
    #[arg(long, value_name = "NAME", default_value = "root")]
    pub lost: Vec<String>,
    #[command(flatten)]
    pub seal: SealArgs,
}
