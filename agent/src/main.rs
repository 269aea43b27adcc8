//! `orangery-agent`: see [`orangery_agent::cli`].

fn main() -> std::process::ExitCode {
    orangery_agent::cli::main()
}
