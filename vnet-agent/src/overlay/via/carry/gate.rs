//! Who may try to open a connection, and how many were refused?
//!
//! Bounded: so many conversations at once in all, and fewer with one address, each for a few seconds.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Conversations at once.
const ALL_MAX: usize = 64;
/// Conversations with one address at once.
const ONE_MAX: usize = 8;

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// Too many conversations.
    TooMany,
    /// It took too long.
    Slow,
    /// It ended before it had proved anything.
    Gone,
    /// It does not speak as we do.
    Garbage,
    /// It proved nothing: no link here has its cookie.
    WrongCookie,
    /// TLS refused it: no certificate, or not one of ours.
    Certificate,
    /// There is no certificate here to answer it with.
    NoCertificate,
    /// What it sent after it was let in was no frame.
    BadMessage,
}

impl Refused {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::TooMany,
        Self::Slow,
        Self::Gone,
        Self::Garbage,
        Self::WrongCookie,
        Self::Certificate,
        Self::NoCertificate,
        Self::BadMessage,
    ];

    /// Its name in JSON and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooMany => "too-many",
            Self::Slow => "slow",
            Self::Gone => "gone",
            Self::Garbage => "garbage",
            Self::WrongCookie => "wrong-cookie",
            Self::Certificate => "certificate",
            Self::NoCertificate => "no-certificate",
            Self::BadMessage => "bad-message",
        }
    }
}

/// Counts who comes and who is refused.
#[derive(Debug, Default)]
pub struct Gate {
    inside: Mutex<BTreeMap<IpAddr, usize>>,
    refused: Mutex<BTreeMap<Refused, u64>>,
}

/// The right to a conversation, until it is dropped.
#[derive(Debug)]
pub struct Pass {
    gate: Arc<Gate>,
    from: IpAddr,
}

impl Gate {
    /// Lets somebody in.
    ///
    /// # Errors
    ///
    /// Too many are inside; it is counted.
    pub fn enter(self: &Arc<Self>, from: IpAddr) -> Result<Pass, Refused> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = inside.values().sum();
        let mine = inside.entry(from).or_default();
        if all >= ALL_MAX || *mine >= ONE_MAX {
            if *mine == 0 {
                inside.remove(&from);
            }
            drop(inside);
            self.refuse(Refused::TooMany);
            return Err(Refused::TooMany);
        }
        *mine += 1;
        let gate = Arc::clone(self);
        Ok(Pass { gate, from })
    }

    /// Counts one that was refused.
    pub fn refuse(&self, why: Refused) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let count = refused.entry(why).or_default();
        *count = count.saturating_add(1);
    }

    /// How many were refused, without reasons that never happened.
    pub fn refused(&self) -> BTreeMap<Refused, u64> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.clone()
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let inside = self.gate.inside.lock();
        let mut inside = inside.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = inside.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                inside.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_places() {
        let gate = Arc::new(Gate::default());
        let from = |number: u8| IpAddr::from([10, 0, 0, number]);
        let first: Vec<_> = (0..ONE_MAX).map(|_| gate.enter(from(1)).unwrap()).collect();
        assert_eq!(gate.enter(from(1)).unwrap_err(), Refused::TooMany);
        let mut others = Vec::new();
        for number in 2..9 {
            others.extend((0..ONE_MAX).map(|_| gate.enter(from(number)).unwrap()));
        }
        assert_eq!(gate.enter(from(9)).unwrap_err(), Refused::TooMany);
        drop(first);
        let again = gate.enter(from(9)).unwrap();
        assert_eq!(gate.refused(), BTreeMap::from([(Refused::TooMany, 2)]));
        drop((others, again));
        assert!(gate.inside.lock().unwrap().is_empty());
    }
}
