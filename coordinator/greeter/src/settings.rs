//! `greeter.conf`: lines of `key = value`; empty lines and lines that begin with `#` say nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the greeter says, and how it behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `version`: its own version.
    pub version: String,
    /// `message`: the greeting.
    pub message: String,
    /// `health_status`: the HTTP status of `/health`; 200 unless given.
    pub health_status: u16,
    /// `start_delay_ms`: time before it listens; none unless given, a minute at most.
    pub start_delay: Duration,
    /// `memory_mib`: memory that it holds without need; none unless given, 1024 MiB at most.
    pub memory_mib: usize,
}

impl Settings {
    /// Reads `greeter.conf` from the directory of the program, or else from the directory above that.
    pub fn load() -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|e| format!("cannot find the own program's path: {e}"))?;
        let path = find(&program)?;
        let text = std::fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        Self::parse(&text).map_err(|reason| format!("{}: {reason}", path.display()))
    }

    /// Understands the text of a `greeter.conf`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut settings = Self {
            version: String::new(),
            message: String::new(),
            health_status: 200,
            start_delay: Duration::ZERO,
            memory_mib: 0,
        };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            let (key, value) = line.split_once('=').ok_or_else(|| format!("{line:?} is not `key = value`"))?;
            settings.set(key.trim(), value.trim())?;
        }
        if settings.version.is_empty() { Err("`version` is missing".into()) } else { Ok(settings) }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let number = |max: u64| {
            let number = value.parse().ok().filter(|n| *n <= max);
            number.ok_or_else(|| format!("`{key}` is {value:?}; it must be a number up to {max}"))
        };
        match key {
            "version" => value.clone_into(&mut self.version),
            "message" => value.clone_into(&mut self.message),
            "health_status" => self.health_status = u16::try_from(number(599)?).unwrap_or(500).max(100),
            "start_delay_ms" => self.start_delay = Duration::from_millis(number(60_000)?),
            "memory_mib" => self.memory_mib = usize::try_from(number(1_024)?).unwrap_or(0),
            _ => return Err(format!("the key `{key}` is unknown")),
        }
        Ok(())
    }
}

fn find(program: &Path) -> Result<PathBuf, String> {
    let directories = program.ancestors().skip(1).take(2);
    let mut candidates = directories.map(|directory| directory.join("greeter.conf"));
    candidates
        .find(|path| path.is_file())
        .ok_or_else(|| format!("there is no greeter.conf beside {} or one directory above", program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read_and_comments_are_not() {
        let read = Settings::parse(
            "# a release\nversion = 1.2.0\nmessage = Hello = you\n\nhealth_status=500\nstart_delay_ms = 20\nmemory_mib=3\n",
        );
        let expected = Settings {
            version: "1.2.0".into(),
            message: "Hello = you".into(),
            health_status: 500,
            start_delay: Duration::from_millis(20),
            memory_mib: 3,
        };
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn a_mistake_in_the_file_is_named() {
        for (text, named) in [
            ("version = 1\ncolour = red", "`colour`"),
            ("version = 1\nhealth_status = bad", "`health_status`"),
            ("version = 1\nstart_delay_ms = 60001", "60000"),
            ("version = 1\nmemory_mib = 1025", "1024"),
            ("message = no version", "`version`"),
            ("version 1", "key = value"),
        ] {
            let refused = Settings::parse(text).unwrap_err();
            assert!(refused.contains(named), "{text:?}: {refused}");
        }
    }

    #[test]
    fn the_file_may_lie_beside_the_program_or_one_directory_above() {
        let root = std::env::temp_dir().join(format!("greeter-test-{}", std::process::id()));
        std::fs::create_dir_all(root.join("bin")).unwrap();
        let program = root.join("bin/greeter");
        assert!(find(&program).is_err());
        std::fs::write(root.join("greeter.conf"), "version = 1").unwrap();
        assert_eq!(find(&program), Ok(root.join("greeter.conf")));
        std::fs::write(root.join("bin/greeter.conf"), "version = 2").unwrap();
        assert_eq!(find(&program), Ok(root.join("bin/greeter.conf")));
        std::fs::remove_dir_all(root).unwrap();
    }
}
