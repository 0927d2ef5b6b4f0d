//! Which outer source port does a flow get?
//!
//! Input: the fields of the inner headers that tell flows apart. Output: a UDP source port from
//! the dynamic range (RFC 8926, section 3.3 recommends 49152 to 65535), so that ECMP and RSS in
//! the underlay spread flows and never reorder one.

/// A running mixture of header words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entropy(u32);

/// 2^32 divided by the golden ratio (Knuth, TAOCP volume 3, section 6.4): multiplying by it
/// spreads neighbouring inputs over the whole word.
const GOLDEN: u32 = 0x9e37_79b1;

impl Entropy {
    /// Nothing mixed in yet.
    #[inline(always)]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Mixes in one word.
    #[inline(always)]
    #[must_use]
    pub const fn with(self, word: u32) -> Self {
        Self((self.0 ^ word).wrapping_mul(GOLDEN).rotate_left(15))
    }

    /// The source port: 49152 to 65535.
    #[inline(always)]
    pub const fn source_port(self) -> u16 {
        let spread = self.0.wrapping_mul(GOLDEN);
        0xc000 | (spread.wrapping_shr(18) as u16)
    }
}

impl Default for Entropy {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Entropy;

    #[test]
    fn ports_are_dynamic_and_spread() {
        let mut buckets = [0u32; 64];
        for flow in 0..64_000u32 {
            let port = Entropy::new()
                .with(0x0a00_0001)
                .with(0x0a00_0002)
                .with(flow)
                .source_port();
            assert!(port >= 49152);
            buckets[usize::from(port & 63)] += 1;
        }
        for count in buckets {
            assert!(
                (800..1200).contains(&count),
                "a queue of 64 got {count} of 64000 flows"
            );
        }
    }
}
