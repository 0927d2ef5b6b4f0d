//! Does a link make sense?

use std::net::IpAddr;

use super::index::Index;
use super::{Problems, check_item_name, check_network_name, unknown};
use crate::model::configuration::UnderlayMatch;
use crate::model::problem::{ConfigurationError, Item, Noun, Place, check_underlay_address};
use crate::model::{Configuration, Link};

/// Everything that is wrong with a link at this place (one past the last for a new one).
pub(in crate::model) fn check_link(
    index: &Index<'_>,
    place: usize,
    link: &Link,
    found: &mut Problems,
) {
    let at = |key| Place::new(Item::Link(place), key);
    check_item_name(Noun::Link, &link.name, at("name"), found);
    if let Some(&first) = index.links.get(link.name.as_str())
        && first != place
    {
        found.push_pair(
            at("name"),
            Place::new(Item::Link(first), "name"),
            ConfigurationError::DuplicateName {
                noun: Noun::Link,
                name: link.name.clone(),
            },
        );
    }
    check_remote(index.configuration, link.remote, at("remote"), found);
    check_fallback(index, at("fallback"), link, found);
    check_carried(index, place, link, found);
    if link.networks.is_empty() {
        found.push(at("networks"), ConfigurationError::NoNetworks);
    }
    for (element, network) in link.networks.iter().enumerate() {
        let at = Place::element(Item::Link(place), "networks", element);
        check_network_name(index, network, at, found);
        if link.networks[..element].contains(network) {
            found.push(
                at,
                ConfigurationError::RepeatedNetwork {
                    network: network.clone(),
                },
            );
        } else if let Some(&first) = index.remotes.get(&remote(link, network))
            && first != place
        {
            found.push_pair(
                at,
                Place::new(Item::Link(first), "remote"),
                ConfigurationError::SharedRemote {
                    remote: link.remote,
                    network: network.clone(),
                    other: index.configuration.links[first].name.clone(),
                },
            );
        }
    }
}

/// Whether frames of this link can take the other.
fn check_fallback(index: &Index<'_>, at: Place, link: &Link, found: &mut Problems) {
    let Some(name) = &link.fallback else { return };
    let links = &index.configuration.links;
    if *name == link.name {
        found.push(at, ConfigurationError::FallbackToItself);
        return;
    }
    let Some(other) = links.iter().find(|other| other.name == *name) else {
        let names = links.iter().map(|link| link.name.as_str());
        found.push(at, unknown(Noun::Link, name, names));
        return;
    };
    if let Some(network) = link.networks.iter().find(|name| !other.carries(name)) {
        found.push(
            at,
            ConfigurationError::FallbackCarriesLess {
                other: name.clone(),
                network: network.clone(),
            },
        );
    }
}

/// What only one link may lead to: the kernel and the agent tell theirs apart each for itself.
fn remote<'a>(link: &Link, network: &'a str) -> (IpAddr, &'a str, bool) {
    (link.remote, network, link.kind.is_carried())
}

/// What a link needs whose ends have to prove to each other which one it is.
fn check_carried(index: &Index<'_>, place: usize, link: &Link, found: &mut Problems) {
    if !link.kind.is_carried() {
        return;
    }
    let at = |key| Place::new(Item::Link(place), key);
    let Some(cookie) = link.cookie else {
        let kind = link.kind;
        found.push(at("kind"), ConfigurationError::CarriedPlain { kind });
        return;
    };
    if let Some(&first) = index.cookies.get(&cookie)
        && first != place
    {
        found.push_pair(
            at("cookie"),
            Place::new(Item::Link(first), "cookie"),
            ConfigurationError::SharedCookie {
                other: index.configuration.links[first].name.clone(),
            },
        );
    }
}

fn check_remote(configuration: &Configuration, remote: IpAddr, at: Place, found: &mut Problems) {
    if let Err(why) = check_underlay_address(remote) {
        found.push(
            at,
            ConfigurationError::BadAddress {
                address: remote,
                why,
            },
        );
        return;
    }
    let UnderlayMatch::Address(local) = configuration.underlay.on else {
        return;
    };
    let underlay = Place::new(Item::Underlay, "address");
    if remote == local {
        found.push_pair(
            at,
            underlay,
            ConfigurationError::LinkToOneself { address: remote },
        );
    } else if remote.is_ipv4() != local.is_ipv4() {
        found.push_pair(
            at,
            underlay,
            ConfigurationError::OtherFamily { remote, local },
        );
    }
}
