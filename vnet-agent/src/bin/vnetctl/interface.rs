//! Which devices are ports, or could be?

use std::process::ExitCode;

use clap::Subcommand;
use vnet_agent::api::Interface;

use crate::client::{Client, path};
use crate::screen::Screen;
use crate::table::{Side, Table, or_empty};
use crate::text::paragraph;

/// What can be done with interfaces.
#[derive(Subcommand)]
pub enum Verb {
    /// Lists ports, devices that the settings name and that are not there, and devices that no
    /// port entry takes in.
    List,
}

/// Does it.
pub async fn run(verb: &Verb, client: &Client, screen: &Screen) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::List => {
            let answer = client.get(&path(&["interfaces"], &[])).await?;
            screen.show(&answer, |list: &Vec<Interface>, columns| {
                render(list, columns)
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn render(interfaces: &[Interface], columns: Option<usize>) -> String {
    if interfaces.is_empty() {
        return "No interfaces.\n".into();
    }
    let mut table = Table::new([
        ("NAME", Side::Left),
        ("NETWORK", Side::Left),
        ("STATE", Side::Left),
        ("MTU", Side::Right),
        ("GUEST MTU", Side::Right),
        ("DOOR", Side::Left),
        ("ADDRESSES", Side::Left),
    ]);
    for interface in interfaces {
        table.row([
            interface.name.clone(),
            or_empty(interface.network.as_ref()),
            interface.state.to_string(),
            or_empty(interface.mtu_bytes),
            or_empty(interface.guest_mtu_bytes),
            or_empty(interface.door.as_ref()),
            addresses(interface),
        ]);
    }
    let mut text = table.render(columns);
    for interface in interfaces {
        let name = crate::text::printable(&interface.name);
        if let Some(note) = &interface.note {
            text.push_str(&paragraph(&format!("{name}: "), note, columns));
        }
        if let Some(why) = &interface.door_why {
            text.push_str(&paragraph(&format!("{name}: its door: "), why, columns));
        }
    }
    text
}

fn addresses(interface: &Interface) -> String {
    match (&interface.addresses, interface.learned) {
        (Some(allowed), Some(learned)) => format!("{allowed}: {learned}"),
        (Some(allowed), None) => allowed.to_string(),
        (None, learned) => or_empty(learned),
    }
}

#[cfg(test)]
mod tests {
    use vnet_agent::api::InterfaceState;
    use vnet_agent::model::Addresses;
    use vnet_common::addr::Mac;

    use super::*;

    #[test]
    fn every_device_says_what_it_does() {
        let tap0 = Interface {
            name: "tap0".into(),
            ifindex: Some(5),
            network: Some("blue".into()),
            addresses: Some(Addresses::Only(vec![Mac([0x52, 0x54, 0, 0, 0, 1])])),
            learned: None,
            door: Some("xdp (native)".into()),
            door_why: Some("its guest sends complete frames".into()),
            mtu_bytes: Some(1430),
            guest_mtu_bytes: Some(1430),
            up: Some(true),
            state: InterfaceState::Forwarding,
            note: None,
        };
        let tap1 = Interface {
            name: "tap1".into(),
            addresses: Some(Addresses::Learn),
            learned: Some(Mac([0x52, 0x54, 0, 0, 0, 2])),
            door: Some("tc".into()),
            door_why: None,
            ..tap0.clone()
        };
        let tap2 = Interface {
            name: "tap2".into(),
            ifindex: None,
            addresses: Some(Addresses::Any),
            door: None,
            door_why: None,
            mtu_bytes: None,
            guest_mtu_bytes: None,
            up: None,
            state: InterfaceState::Absent,
            note: Some("no such device now; it is taken in when it comes".into()),
            ..tap0.clone()
        };
        let expected = "\
NAME  NETWORK  STATE        MTU  GUEST MTU  DOOR          ADDRESSES
tap0  blue     forwarding  1430       1430  xdp (native)  52:54:00:00:00:01
tap1  blue     forwarding  1430       1430  tc            learn: 52:54:00:00:00:02
tap2  blue     absent                                     any
tap0: its door: its guest sends complete frames
tap2: no such device now; it is taken in when it comes
";
        assert_eq!(render(&[tap0, tap1, tap2], Some(100)), expected);
        assert_eq!(render(&[], None), "No interfaces.\n");
    }
}
