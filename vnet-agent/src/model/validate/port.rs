//! Does a port entry make sense?

use vnet_common::addr::Mac;
use vnet_common::table::port::ADDRESSES_MAX;

use super::index::Index;
use super::{Problems, check_network_name, check_range, check_station};
use crate::model::configuration::UnderlayMatch;
use crate::model::port::{
    BURST_SECONDS_MAX, SLOW_PATH_MAX, check_device_name, check_device_pattern,
};
use crate::model::problem::{ConfigurationError, Item, Place};
use crate::model::{Addresses, Configuration, DeviceMatch, Port};

pub(super) fn check_port(index: &Index<'_>, place: usize, port: &Port, found: &mut Problems) {
    let at = |key| Place::new(Item::Port(place), key);
    let key = device_key(&port.device);
    check_port_device(index.configuration, &port.device, at(key), found);
    if let Some(&first) = index.devices.get(&port.device)
        && first != place
    {
        let device = port.device.clone();
        let earlier = Place::new(Item::Port(first), key);
        found.push_pair(
            at(key),
            earlier,
            ConfigurationError::DuplicateDevice { device },
        );
    }
    check_network_name(index, &port.network, at("network"), found);
    if let Addresses::Only(addresses) = &port.addresses {
        check_addresses(index, place, port, addresses, found);
    }
    let (rate, burst) = (port.slow_path_rate, port.slow_path_burst);
    let most = u64::from(SLOW_PATH_MAX);
    check_range(at("slow_path_rate"), rate.into(), 1, most, found);
    check_range(at("slow_path_burst"), burst.into(), 1, most, found);
    if (1..=SLOW_PATH_MAX).contains(&rate) && burst > rate.saturating_mul(BURST_SECONDS_MAX) {
        found.push(
            at("slow_path_burst"),
            ConfigurationError::BurstTooLong { burst, rate },
        );
    }
}

const fn device_key(device: &DeviceMatch) -> &'static str {
    match device {
        DeviceMatch::Name(_) => "name",
        DeviceMatch::Pattern(_) => "pattern",
    }
}

fn check_port_device(
    configuration: &Configuration,
    device: &DeviceMatch,
    at: Place,
    found: &mut Problems,
) {
    let bad = match device {
        DeviceMatch::Name(name) => {
            check_device_name(name)
                .err()
                .map(|why| ConfigurationError::BadDevice {
                    name: name.clone(),
                    why,
                })
        }
        DeviceMatch::Pattern(pattern) => {
            check_device_pattern(pattern)
                .err()
                .map(|why| ConfigurationError::BadPattern {
                    pattern: pattern.clone(),
                    why,
                })
        }
    };
    if let Some(error) = bad {
        found.push(at, error);
        return;
    }
    if let UnderlayMatch::Device(underlay) = &configuration.underlay.on
        && let Some(error) = takes(device, underlay, "underlay device")
    {
        found.push(at, error);
    }
    if let Some(error) = takes(device, "lo", "loopback device") {
        found.push(at, error);
    }
}

/// The error of a port entry that takes in a device which has another role, if it does.
pub fn takes(entry: &DeviceMatch, device: &str, role: &'static str) -> Option<ConfigurationError> {
    if !entry.matches(device) {
        return None;
    }
    let device = device.to_owned();
    Some(match entry {
        DeviceMatch::Name(_) => ConfigurationError::DeviceTaken { device, role },
        DeviceMatch::Pattern(pattern) => ConfigurationError::PatternTakesIn {
            pattern: pattern.clone(),
            device,
            role,
        },
    })
}

fn check_addresses(
    index: &Index<'_>,
    place: usize,
    port: &Port,
    addresses: &[Mac],
    found: &mut Problems,
) {
    let at = Place::new(Item::Port(place), "addresses");
    match addresses.len() {
        0 => found.push(at, ConfigurationError::NoAddresses),
        count if count > ADDRESSES_MAX => {
            found.push(at, ConfigurationError::TooManyAddresses { count });
        }
        _ => {}
    }
    for (element, &address) in addresses.iter().enumerate() {
        let at = Place::element(Item::Port(place), "addresses", element);
        check_station(address, at, found);
        let Some(&first) = index.addresses.get(&(port.network.as_str(), address)) else {
            continue;
        };
        if first != (place, element) {
            let (first_place, first_element) = first;
            let earlier = Place::element(Item::Port(first_place), "addresses", first_element);
            let error = if first_place == place {
                ConfigurationError::RepeatedAddress { address }
            } else {
                let other = index.configuration.ports[first_place].device.clone();
                let network = port.network.clone();
                ConfigurationError::AddressTaken {
                    address,
                    network,
                    other,
                }
            };
            found.push_pair(at, earlier, error);
        }
    }
}
