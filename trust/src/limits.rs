//! Bounds on metadata, known before the first byte is fetched (TUF 5.3.3, 5.4.1, 5.5.1, 5.6.1).

/// Largest root metadata, in bytes: W of TUF 5.3.3.
pub const ROOT_BYTES_MAX: u64 = 256 * 1024;
/// Largest timestamp metadata, in bytes: X of TUF 5.4.1.
pub const TIMESTAMP_BYTES_MAX: u64 = 16 * 1024;
/// Largest snapshot metadata, in bytes: Y of TUF 5.5.1.
pub const SNAPSHOT_BYTES_MAX: u64 = 1024 * 1024;
/// Largest targets metadata, in bytes: Z of TUF 5.6.1. Room for some ten thousand releases.
pub const TARGETS_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Most root metadata files that one refresh follows: Y of TUF 5.3.3. The next refresh goes on from there.
pub const ROOTS_PER_REFRESH_MAX: u32 = 1_024;
/// Most signatures on one file.
pub const SIGNATURES_MAX: usize = 64;
/// Most values in one file: numbers, texts, lists, objects. Ten thousand releases have less than half of them.
pub const JSON_VALUES_MAX: u32 = 262_144;
/// Most keys in one file or of one role, those of unknown kinds included.
pub const KEYS_MAX: usize = 1_024;
/// Largest public key in PEM, in bytes. RSA keys of 8192 bits need less than half of it.
pub const KEY_PEM_BYTES_MAX: usize = 4_096;
/// Largest metadata of a delegated role, in bytes: Z of TUF 5.6.1 for all but the top.
pub const DELEGATED_BYTES_MAX: u64 = 1024 * 1024;
/// Most delegated roles that one search visits: the maximum of TUF 5.6.7.1. As in the reference implementation.
pub const ROLES_PER_SEARCH_MAX: usize = 32;
/// Most roles that one file delegates to.
pub const DELEGATIONS_MAX: usize = 4_096;
/// Longest name of a delegated role, in bytes. Percent-encoded, and with what is put before and after it, it must still be
/// the name of a file.
pub const ROLE_NAME_BYTES_MAX: usize = 64;
/// Longest path that is searched for, and longest pattern of paths, in bytes.
pub const TARGET_PATH_BYTES_MAX: usize = 1_024;
