//! How long is a certificate good, and when is it time for the next?

use std::time::Duration;

use super::IdentityError;

/// Of a host's certificate where nobody says otherwise.
pub const HOST_LIFE: Duration = days(90);
/// Of a certificate authority's.
pub const AUTHORITY_LIFE: Duration = days(3650);
/// Clocks of hosts may differ by this much: certificates are good a little before they are made.
const CLOCKS_DIFFER: Duration = Duration::from_secs(300);

const fn days(count: u64) -> Duration {
    Duration::from_secs(count * 24 * 60 * 60)
}

/// From when to when a certificate is good, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// From this second on.
    pub from_unix_s: u64,
    /// To this one.
    pub to_unix_s: u64,
}

impl Life {
    /// A life of this length that begins now.
    pub fn new(now_unix_s: u64, length: Duration) -> Self {
        let early = CLOCKS_DIFFER.as_secs().min(length.as_secs() / 10);
        Self {
            from_unix_s: now_unix_s.saturating_sub(early),
            to_unix_s: now_unix_s.saturating_add(length.as_secs()),
        }
    }

    /// When it was made: it is good from a little earlier on.
    pub const fn made_unix_s(&self) -> u64 {
        let whole = self.length().as_secs();
        let most = CLOCKS_DIFFER.as_secs();
        // As [`Self::new`] has it, a tenth of the rest.
        let early = if whole / 11 < most { whole / 11 } else { most };
        self.from_unix_s.saturating_add(early)
    }

    /// How long it is.
    pub const fn length(&self) -> Duration {
        Duration::from_secs(self.to_unix_s.saturating_sub(self.from_unix_s))
    }

    /// Whether two thirds of it are over: a third is left to reach the proxy in.
    pub const fn is_ageing(&self, now_unix_s: u64) -> bool {
        let age = now_unix_s.saturating_sub(self.from_unix_s);
        age.saturating_mul(3) >= self.length().as_secs().saturating_mul(2)
    }

    /// Whether it is over.
    pub const fn is_over(&self, now_unix_s: u64) -> bool {
        now_unix_s > self.to_unix_s
    }
}

/// Reads a length of time: `90d`, `12h`, `30m`, `45s`.
///
/// # Errors
///
/// It is none, or nothing, or longer than a century.
pub fn parse_length(text: &str) -> Result<Duration, IdentityError> {
    let bad = || IdentityError::BadLife(text.to_owned());
    let unit = text.chars().last().ok_or_else(bad)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(bad()),
    };
    let number = text.strip_suffix(unit).ok_or_else(bad)?;
    let number: u64 = number.parse().map_err(|_| bad())?;
    let length = number.checked_mul(seconds).map(Duration::from_secs);
    length
        .filter(|length| !length.is_zero() && *length <= days(36_525))
        .ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_thirds_of_a_life_make_it_time_for_the_next() {
        let life = Life::new(1_000_000, Duration::from_secs(9000));
        assert_eq!((life.from_unix_s, life.to_unix_s), (999_700, 1_009_000));
        assert!(!life.is_ageing(999_700 + 6199));
        assert!(life.is_ageing(999_700 + 6200));
        assert!(!life.is_over(1_009_000) && life.is_over(1_009_001));
        // A clock that runs behind makes nothing old.
        assert!(!life.is_ageing(5) && !life.is_over(5));
    }

    #[test]
    fn lengths_are_read_with_their_unit() {
        for (text, seconds) in [
            ("45s", 45),
            ("30m", 1800),
            ("12h", 43_200),
            ("90d", 7_776_000),
        ] {
            assert_eq!(
                parse_length(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "d",
            "90",
            "0s",
            "-1d",
            "1w",
            "1.5h",
            "99999999999999999999d",
            "40000d",
            "5é",
        ] {
            assert_eq!(
                parse_length(text),
                Err(IdentityError::BadLife(text.into())),
                "{text}"
            );
        }
    }
}
