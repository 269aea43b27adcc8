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
