//! Other people's programs, which know file systems.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::ImageError;

/// Which package of Debian has a program.
fn package(program: &str) -> &'static str {
    match program {
        "sfdisk" => "fdisk",
        "xz" => "xz-utils",
        "zstd" => "zstd",
        "gzip" => "gzip",
        "mcopy" | "mtype" => "mtools",
        _ => "e2fsprogs",
    }
}

/// A command that finds its program for users who have no administration directories in their `PATH`, and speaks English.
pub fn command(program: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).env("LC_ALL", "C");
    command
}

/// What a program says, if it succeeds.
pub fn said(program: &'static str, command: &mut Command) -> Result<Vec<u8>, ImageError> {
    let output = output(program, command.stdin(Stdio::null()))?;
    if output.status.success() { Ok(output.stdout) } else { Err(failed(program, &output)) }
}

/// As [`said`]; the program reads `input`.
pub fn said_to(program: &'static str, command: &mut Command, input: &[u8]) -> Result<Vec<u8>, ImageError> {
    let mut file = tempfile::tempfile().map_err(|source| temporary(&source))?;
    file.write_all(input).map_err(|source| temporary(&source))?;
    std::io::Seek::rewind(&mut file).map_err(|source| temporary(&source))?;
    let output = output(program, command.stdin(file))?;
    if output.status.success() { Ok(output.stdout) } else { Err(failed(program, &output)) }
}

/// Runs it, however it ends.
pub fn output(program: &'static str, command: &mut Command) -> Result<Output, ImageError> {
    command.output().map_err(|error| not_run(program, &error))
}

/// It was not even started.
pub fn not_run(program: &'static str, error: &std::io::Error) -> ImageError {
    if error.kind() == std::io::ErrorKind::NotFound {
        return ImageError::MissingTool { program, package: package(program) };
    }
    ImageError::Tool { program, reason: error.to_string() }
}

fn failed(program: &'static str, output: &Output) -> ImageError {
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it does not say why");
    ImageError::Tool { program, reason: orangery_wire::limits::reason(last) }
}

fn temporary(source: &std::io::Error) -> ImageError {
    ImageError::Tool { program: "mktemp", reason: source.to_string() }
}

/// How e2fsprogs name a file system inside a file.
pub fn within(image: &Path, offset_bytes: u64) -> String {
    format!("{}?offset={offset_bytes}", image.display())
}
