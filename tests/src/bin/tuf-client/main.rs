//! The client that the public conformance suite of The Update Framework judges: the agent's own code for trusted metadata
//! and for fetching, behind the command line of the suite (its CLIENT-CLI.md). Only here is plain HTTP possible.
//!
//! ```text
//! tuf-client --metadata-dir D init ROOT
//! tuf-client --metadata-dir D --metadata-url U refresh
//! tuf-client --metadata-dir D --metadata-url U --target-dir X --target-base-url B --target-name T... download
//! ```

mod arguments;
mod node;

use std::process::ExitCode;

use arguments::{Arguments, Command};
use node::{Node, init};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tuf-client: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let Arguments { metadata_dir, command } = Arguments::read(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Init { root } => init(&metadata_dir, &root),
        Command::Refresh { metadata_url } => {
            let mut node = Node::load(&metadata_dir, &metadata_url);
            let outcome = runtime.block_on(node.refresh());
            node.show()?;
            outcome
        }
        Command::Download { metadata_url, target_dir, target_base_url, target_names } => {
            let mut node = Node::load(&metadata_dir, &metadata_url);
            let outcome = runtime.block_on(node.download(&target_base_url, &target_dir, &target_names));
            node.show()?;
            outcome
        }
    }
}
