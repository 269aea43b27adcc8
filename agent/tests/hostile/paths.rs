//! Paths that lead elsewhere, or are none.

use std::path::Path;

use super::{Cases, Draft, directory, file, link};

/// What it is, the path, and what the refusal says.
const PATHS: &[(&str, &str, &str)] = &[
    ("the parent", "..", "'..'"),
    ("in the parent", "../x", "'..'"),
    ("two up", "../../x", "'..'"),
    ("many up", "../../../../../../../../../../etc/cron.d/x", "'..'"),
    ("ends in the parent", "d/..", "'..'"),
    ("down and up", "d/../x", "'..'"),
    ("down, up and out", "d/../../x", "'..'"),
    ("through what is not there", "none/../../x", "'..'"),
    ("up in the middle", "d/../../outside/x", "'..'"),
    ("itself", ".", "'.' part"),
    ("begins here", "./x", "'.' part"),
    ("ends here", "d/.", "'.' part"),
    ("here in the middle", "d/./x", "'.' part"),
    ("nothing", "", "1 to 512"),
    ("ends in a slash", "d/", "empty"),
    ("two slashes", "d//x", "empty"),
    ("a slash", "/", "absolute"),
    ("slashes alone", "///", "absolute"),
    ("absolute", "/x", "absolute"),
    ("of the system", "/etc/ld.so.preload", "absolute"),
    ("absolute with two slashes", "//etc/ld.so.preload", "absolute"),
    ("absolute by /proc", "/proc/self/cwd/x", "absolute"),
    ("a NUL in it", "x\0y", "control"),
    ("a NUL at its end", "x\0", "control"),
    ("a NUL alone", "\0", "control"),
    ("a line break", "x\ny", "control"),
    ("a carriage return", "x\ry", "control"),
    ("a tab", "x\ty", "control"),
    ("an escape sequence", "\u{1b}[2Jx", "control"),
    ("a delete", "x\u{7f}", "control"),
    ("a C1 control", "x\u{9b}31m", "control"),
    ("a backslash", "d\\x", "backslash"),
    ("up by backslash", "..\\..\\x", "backslash"),
    ("a drive", "C:\\x", "backslash"),
    ("a share", "\\\\host\\share", "backslash"),
    ("a letter and its mark", "e\u{301}", "NFC"),
    ("parts of a Hangul syllable", "\u{1112}\u{1161}\u{11ab}", "NFC"),
    ("written backwards", "gpj.\u{202e}exe", "invisible"),
    ("a space of no width", "d\u{200b}", "invisible"),
    ("a byte order mark", "\u{feff}app", "invisible"),
    ("a soft hyphen", "a\u{ad}pp", "invisible"),
];

pub fn add(cases: &mut Cases, outside: &Path) {
    let absolute = format!("{}/x", outside.display());
    let (name_too_long, too_long, too_deep) = ("n".repeat(256), "n/".repeat(256) + "n", "n/".repeat(32) + "n");
    let longer = [
        ("to a place outside", absolute.as_str(), "absolute"),
        ("a name of 256 bytes", &name_too_long, "255"),
        ("513 bytes", &too_long, "1 to 512"),
        ("33 deep", &too_deep, "too deep"),
    ];
    for (what, path, why) in PATHS.iter().copied().chain(longer) {
        cases.invalid(format!("a file whose path is {what}"), why, Draft::new().with(file(path, b"")));
        cases.invalid(format!("a directory whose path is {what}"), why, Draft::new().with(directory(path)));
        cases.invalid(format!("a link whose path is {what}"), why, Draft::new().with(link(path, "app")));
    }
}
