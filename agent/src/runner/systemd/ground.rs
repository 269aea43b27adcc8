//! Whether systemd can give a directory to a user that it makes for a service.
//!
//! It moves the directory to /var/lib/private, by renaming, and leaves a link. That fails where the state directory is a
//! file system of its own, and would put the app's files on the wrong one.

use std::path::{Path, PathBuf};

/// Where systemd keeps the state of services.
pub const STATE_ROOT: &str = "/var/lib";

/// Whether `directory` lies in the same file system as systemd's own place for such directories.
pub fn can_be_given_away(directory: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let straight = std::fs::canonicalize(directory).is_ok_and(|real| real == directory);
    straight && directory.starts_with(STATE_ROOT) && !mounted_on_the_way(directory, &mounts)
}

/// Whether something is mounted at `directory` or above it, below [`STATE_ROOT`] (proc(5), mountinfo).
fn mounted_on_the_way(directory: &Path, mounts: &str) -> bool {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    let root = Path::new(STATE_ROOT);
    points.into_iter().any(|point| point != root && point.starts_with(root) && directory.starts_with(&point))
}

/// The kernel writes spaces, tabs, line breaks and backslashes as octal numbers.
fn unescaped(point: &str) -> PathBuf {
    let plain = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    plain.iter().fold(point.to_owned(), |text, (code, c)| text.replace(code, c)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_on_the_way_is_seen() {
        let mounts = |point: &str| {
            format!("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 8:2 / {point} rw shared:1 - ext4 /dev/sda2 rw\n")
        };
        let state = Path::new("/var/lib/orangery");
        for (point, expected) in [
            ("/var/lib/orangery", true),
            ("/var/lib/orange", false),
            ("/var/lib/orangery/apps", false),
            ("/var/lib", false),
            ("/var", false),
            ("/srv", false),
        ] {
            assert_eq!(mounted_on_the_way(state, &mounts(point)), expected, "{point}");
        }
        assert!(mounted_on_the_way(Path::new("/var/lib/a b/c"), &mounts("/var/lib/a\\040b")));
    }

    #[test]
    fn only_what_is_below_var_lib_and_not_reached_by_a_link_can_be_given_away() {
        assert!(!can_be_given_away(Path::new("/srv")));
        assert!(!can_be_given_away(Path::new("/var/lib/nonexistent")));
        assert!(!can_be_given_away(Path::new("/var/lib/../lib")));
    }
}
