//! Bounds on everything that comes from outside. They are checked before memory is reserved or a byte is written.

/// Longest node or app name, in bytes (one DNS label, RFC 1035 section 2.3.4).
pub const NAME_BYTES_MAX: usize = 63;
/// Largest MQTT payload either side sends or accepts.
pub const PACKET_BYTES_MAX: usize = 64 * 1024;
/// Largest release manifest.
pub const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most entries (files, directories, links) in one platform's tree.
pub const TREE_ENTRIES_MAX: usize = 16_384;
/// Deepest path in a tree, in components.
pub const TREE_DEPTH_MAX: usize = 32;
/// Longest path in a tree, in bytes.
pub const PATH_BYTES_MAX: usize = 512;
/// Largest unpacked tree.
pub const TREE_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Most a pack may grow when it is unpacked: unpacked bytes for each packed byte, on top of [`UNPACK_SLACK_BYTES`].
pub const UNPACK_RATIO_MAX: u64 = 1_000;
/// Unpacked bytes that any pack may have whatever its ratio.
pub const UNPACK_SLACK_BYTES: u64 = 16 * 1024 * 1024;
/// Most platforms in one release.
pub const PLATFORMS_MAX: usize = 16;
/// Most probes in one release.
pub const PROBES_MAX: usize = 16;
/// Most sockets that are held for one app.
pub const SOCKETS_MAX: usize = 8;
/// Most words in a command line, and most environment variables.
pub const WORDS_MAX: usize = 256;
/// Longest single text (a word, an environment value, a note).
pub const TEXT_BYTES_MAX: usize = 4 * 1024;
/// Longest time that any setting of a manifest may name: one day.
pub const SECONDS_MAX: u64 = 86_400;
/// Most apps on one node.
pub const APPS_MAX: usize = 32;
/// Most labels on one node or in one constraint.
pub const LABELS_MAX: usize = 32;
/// Longest reason in a refusal or event, in bytes; longer ones are cut at a character.
pub const REASON_BYTES_MAX: usize = 1_024;

/// Most bytes of JSON that a node keeps of what it saw of a refused release.
pub const EVIDENCE_BYTES_MAX: usize = 8 * 1024;
/// Most bytes of it that travel in an event.
pub const EVIDENCE_EVENT_BYTES_MAX: usize = 4 * 1024;
/// Most lines of an app's output in it.
pub const EVIDENCE_LINES_MAX: usize = 50;

/// Most bytes of an app's output that a node shows when it is asked to.
pub const OUTPUT_BYTES_MAX: usize = 32 * 1024;
/// Most lines of it.
pub const OUTPUT_LINES_MAX: usize = 500;
/// Most outputs that a node is asked for at once.
pub const SHOW_MAX: usize = 4;

/// Cuts `text` to at most [`REASON_BYTES_MAX`] bytes, at a character boundary.
pub fn reason(text: impl Into<String>) -> String {
    let mut text = text.into();
    if text.len() > REASON_BYTES_MAX {
        let mut end = REASON_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}
