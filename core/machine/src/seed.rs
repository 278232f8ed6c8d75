//! The seed of a run's random numbers: the same in every SDK, so that languages' generators agree across cores.

use std::hash::{Hash, Hasher};

use siphasher::sip::SipHasher13;

/// SipHash-1-3 with a zero key over the run id as Rust hashes a string.
pub(crate) fn seed(run_id: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    String::from_utf8_lossy(run_id).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::seed;

    #[test]
    fn seeds_are_those_of_recorded_activations() {
        assert_eq!(seed(b"01a20262-e894-77f8-b8dd-7fd71550c292"), 14_393_390_895_965_019_645);
        assert_eq!(seed(b"01a20263-d27b-7e55-83d9-ae795c8ded69"), 11_128_696_664_263_425_474);
    }
}
