//! Whose certificates count no more, although they are not over?
//!
//! Names, and a time each: every certificate of that name that was made until then. One that is made
//! later counts, so that a name can be given anew; renewals need no list of what was ever signed.
//!
//! ```text
//! # name, and seconds since 1970
//! alice 1790000000
//! ```

use std::collections::BTreeMap;
use std::fmt;

use super::{Certificate, IdentityError, check_host};

/// Whose certificates are revoked, and until when they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked(BTreeMap<String, u64>);

impl Revoked {
    /// Reads the text of a list.
    ///
    /// # Errors
    ///
    /// A line is not one of such a list.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let mut revoked = Self::default();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.split('#').next().unwrap_or_default();
            let mut words = text.split_whitespace();
            let (Some(name), until, None) = (words.next(), words.next(), words.nth(0)) else {
                match text.trim().is_empty() {
                    true => continue,
                    false => return Err(bad(line)),
                }
            };
            check_host(name)?;
            let until = until.and_then(|until| until.parse().ok());
            revoked.add(name, until.ok_or_else(|| bad(line))?)?;
        }
        Ok(revoked)
    }

    /// Revokes what has been made for this name until now.
    ///
    /// # Errors
    ///
    /// Nobody can be called so.
    pub fn add(&mut self, name: &str, now_unix_s: u64) -> Result<(), IdentityError> {
        check_host(name)?;
        let until = self.0.entry(name.to_owned()).or_insert(now_unix_s);
        *until = now_unix_s.max(*until);
        Ok(())
    }

    /// Whether this certificate is revoked.
    pub fn covers(&self, certificate: &Certificate) -> bool {
        let until = self.0.get(&certificate.name);
        until.is_some_and(|&until| certificate.life.made_unix_s() <= until)
    }
}

/// The text.
impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# name, and seconds since 1970")?;
        for (name, until) in &self.0 {
            writeln!(f, "{name} {until}")?;
        }
        Ok(())
    }
}

fn bad(line: u32) -> IdentityError {
    IdentityError::Unreadable {
        what: "list of the revoked",
        why: format!("line {line} is not a name and seconds since 1970"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::identity::Role;
    use crate::identity::life::Life;

    const NOW: u64 = 1_790_000_000;

    fn made(name: &str, at: u64, life_s: u64) -> Certificate {
        Certificate {
            name: name.to_owned(),
            role: Role::Operator,
            life: Life::new(at, Duration::from_secs(life_s)),
        }
    }

    #[test]
    fn what_was_made_until_then_is_revoked_and_what_comes_later_is_not() {
        let mut revoked = Revoked::default();
        revoked.add("alice", NOW).unwrap();
        for life_s in [1, 10, 599, 3000, 90 * 86_400] {
            assert!(revoked.covers(&made("alice", NOW, life_s)), "{life_s}");
            assert!(!revoked.covers(&made("alice", NOW + 1, life_s)), "{life_s}");
            assert!(!revoked.covers(&made("bob", NOW, life_s)), "{life_s}");
        }
        // A clock that went back takes nothing back.
        revoked.add("alice", NOW - 100).unwrap();
        assert!(revoked.covers(&made("alice", NOW, 60)));
        assert!(revoked.add("a b", NOW).is_err());
    }

    #[test]
    fn a_list_is_its_text() {
        let mut revoked = Revoked::default();
        revoked.add("alice", NOW).unwrap();
        revoked.add("host-two", 7).unwrap();
        assert_eq!(Revoked::parse(&revoked.to_string()), Ok(revoked));
        assert_eq!(Revoked::parse("\n # nobody\n"), Ok(Revoked::default()));
        for text in ["alice", "alice x", "alice 1 2", "-a 1", "ok 1\nalice -1"] {
            assert!(Revoked::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn the_time_of_making_is_in_the_life(at in 0..u64::from(u32::MAX) * 2, life in 1..10_000_u64) {
            let at = at + 1000;
            prop_assert_eq!(Life::new(at, Duration::from_secs(life)).made_unix_s(), at);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
            let _ = Revoked::parse(&text);
        }
    }
}
