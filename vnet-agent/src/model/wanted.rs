//! What is in force on a host that gets a part of its configuration from a proxy?
//!
//! Input: what the host itself wants (its file, and what clients changed), and its part of the
//! overlay. Output: both together; and, the other way, what of a change is the host's own.

use std::collections::BTreeSet;

use super::part::Part;
use super::problem::{ConfigurationError, Noun};
use super::{Configuration, Rule};

/// A port entry that is left out as long as nobody has dealt its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The entry's device, as the file names it.
    pub device: String,
    /// The network.
    pub network: String,
}

/// Why a part is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "revision {offered} is {} than this host's, {held}: the proxy has come back with an older state. \
     Give it back its state directory; or remove overlay.json from there and start it again, which \
     deals everything anew",
    if offered < held { "older" } else { "other" }
)]
pub struct StalePart {
    /// What was offered.
    pub offered: u64,
    /// What the host has.
    pub held: u64,
}

/// Whether an offered part is another one than the host goes by.
///
/// # Errors
///
/// It is older, or a different one with the same revision.
pub fn is_new(held: Option<&Part>, offered: &Part) -> Result<bool, StalePart> {
    let Some(held) = held else {
        return Ok(true);
    };
    let stale = Err(StalePart {
        offered: offered.revision,
        held: held.revision,
    });
    match offered.revision.cmp(&held.revision) {
        std::cmp::Ordering::Greater => Ok(true),
        std::cmp::Ordering::Equal if offered == held => Ok(false),
        _ => stale,
    }
}

/// What is in force.
pub fn in_force(own: &Configuration, part: Option<&Part>) -> (Configuration, Vec<Waiting>) {
    let mut all = match part {
        Some(part) => part.onto(own),
        None => own.clone(),
    };
    let known: BTreeSet<String> = all
        .networks
        .iter()
        .map(|network| network.name.clone())
        .collect();
    let mut waiting = Vec::new();
    all.ports.retain(|port| {
        let is_known = known.contains(&port.network);
        if !is_known {
            waiting.push(Waiting {
                device: port.device.to_string(),
                network: port.network.clone(),
            });
        }
        is_known
    });
    (all, waiting)
}

/// What a host wants itself, once a client has made this of what is in force.
///
/// # Errors
///
/// The client changed what the proxy has dealt.
pub fn own_of(
    changed: Configuration,
    own: &Configuration,
    part: &Part,
) -> Result<Configuration, ConfigurationError> {
    for link in &part.links {
        if changed.link(&link.name) != Some(link) {
            return Err(ConfigurationError::DealtByProxy {
                noun: Noun::Link,
                what: link.name.clone(),
            });
        }
    }
    for rule in &part.rules {
        if !changed.rules.contains(rule) {
            return Err(ConfigurationError::DealtByProxy {
                noun: Noun::Rule,
                what: rule.to_string(),
            });
        }
    }
    let keys: BTreeSet<_> = part.rules.iter().map(Rule::key).collect();
    // Those that the part covers come back when it goes.
    let covered = own.rules.iter().filter(|rule| keys.contains(&rule.key()));
    let mut rules: Vec<Rule> = covered.cloned().collect();
    let more = changed
        .rules
        .into_iter()
        .filter(|rule| !part.rules.contains(rule));
    rules.extend(more);
    let mut links = changed.links;
    links.retain(|link| !part.links.contains(link));
    Ok(Configuration {
        links,
        rules,
        ..own.clone()
    })
}

#[cfg(test)]
mod tests {
    use vnet_common::rule::Destination;

    use super::*;
    use crate::model::sample::{GUEST_THREE, GUEST_TWO, host_one, link, network, rule};
    use crate::model::{RuleOrigin, Target};

    fn part() -> Part {
        Part {
            revision: 1,
            networks: vec![network("green", 8)],
            links: vec![link("to-hub", 9, &["green"])],
            rules: vec![Rule {
                origin: RuleOrigin::Proxy,
                ..rule("blue", Destination::Is(GUEST_THREE), Target::Drop)
            }],
        }
    }

    fn own() -> Configuration {
        let mut own = host_one();
        own.networks.pop();
        own.links.pop();
        own
    }

    #[test]
    fn a_part_is_taken_when_it_is_newer() {
        let held = part();
        assert_eq!(is_new(None, &held), Ok(true));
        assert_eq!(is_new(Some(&held), &held), Ok(false));
        let newer = Part {
            revision: 2,
            ..held.clone()
        };
        assert_eq!(is_new(Some(&held), &newer), Ok(true));
        let older = is_new(Some(&newer), &held).unwrap_err().to_string();
        assert!(
            older.starts_with("revision 1 is older than this host's, 2"),
            "{older}"
        );
        let other = Part {
            links: Vec::new(),
            ..held.clone()
        };
        let other = is_new(Some(&held), &other).unwrap_err().to_string();
        assert!(other.starts_with("revision 1 is other than"), "{other}");
    }

    #[test]
    fn a_port_waits_for_its_network() {
        let (alone, waiting) = in_force(&own(), None);
        assert_eq!(alone.ports.len(), 2);
        assert_eq!(alone.problems(), []);
        let expected = Waiting {
            device: "tap-green-*".into(),
            network: "green".into(),
        };
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting[0].network, expected.network);
        let (together, waiting) = in_force(&own(), Some(&part()));
        assert_eq!((together.ports.len(), waiting.len()), (3, 0));
        assert_eq!(together.problems(), []);
    }

    #[test]
    fn clients_change_what_is_the_hosts_own() {
        let (mut changed, _) = in_force(&own(), Some(&part()));
        let new = rule("blue", Destination::Is(GUEST_TWO), Target::Flood);
        changed.add_rule(new.clone()).unwrap();
        let after = own_of(changed, &own(), &part()).unwrap();
        let mut expected = own();
        expected.rules.push(new);
        assert_eq!(after, expected);
        assert_eq!(after.ports.len(), 3, "waiting ports are not forgotten");
    }

    #[test]
    fn what_the_proxy_dealt_is_not_theirs_to_change() {
        let (in_force, _) = in_force(&own(), Some(&part()));
        let mut changed = in_force.clone();
        changed.delete_link("to-hub", true).unwrap();
        let said = own_of(changed, &own(), &part()).unwrap_err().to_string();
        assert_eq!(said, "link to-hub is the proxy's, not this host's");
        let mut changed = in_force;
        changed
            .add_rule(rule("blue", Destination::Is(GUEST_THREE), Target::Flood))
            .unwrap();
        assert!(own_of(changed, &own(), &part()).is_err());
    }
}
