//! Random moments that can be had again: the seed is printed, and `ORANGERY_SEED` sets it.

/// A small generator (splitmix64), seeded once for a test.
pub struct Random(u64);

impl Random {
    /// Seeded from `ORANGERY_SEED`, or freshly; says which.
    pub fn announced() -> Self {
        use std::hash::{BuildHasher, Hasher};
        let given = std::env::var("ORANGERY_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
        eprintln!("ORANGERY_SEED={seed}");
        Self(seed)
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}
