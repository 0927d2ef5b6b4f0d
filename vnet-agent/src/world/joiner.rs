//! How does the kernel come to join the packets of our tunnel before a program sees them?
//!
//! Its GRO goes into the packets of a tunnel whose UDP port has a socket that says how, and no
//! program can make such a socket: a device of the kernel's has it. So there is a VXLAN device at our
//! port, whose headers are as long as ours (`vnet_common::wire::link_option`). It is there for its
//! socket alone: the packets that GRO has joined meet our program first, and of what that passes the
//! device takes nothing, because it is told of no network (`vnifilter`, Linux 5.18).
//!
//! Input: our UDP port. Output: a device that is up, or why there is none. It outlives the agent, as
//! the programs do.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage,
};

use super::netlink::{NetlinkError, Requests};
use super::tap::without_ipv6;
use crate::model::host::{Device, DeviceKind};

/// Why there is no such device.
#[derive(Debug, thiserror::Error)]
pub enum JoinerError {
    /// Something else receives at the port.
    #[error("UDP port {port} is taken by another socket (`ss -lunp` may name it)")]
    Taken {
        /// The port.
        port: u16,
    },
    /// There is a device of that name, and it is something else.
    #[error("there is a device {name} already, and it is no vxlan ({kind})")]
    OtherDevice {
        /// The name.
        name: String,
        /// What it is.
        kind: DeviceKind,
    },
    /// The kernel says no.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// The name of the device for a UDP port: at most 15 bytes, as long as names may be.
pub fn name(port: u16) -> String {
    format!("vnet-join-{port}")
}

/// Whether a device of that name is one of ours that does its work.
pub fn is_at_work(device: &Device) -> bool {
    device.up && is_vxlan(device)
}

fn is_vxlan(device: &Device) -> bool {
    device.kind == DeviceKind::Other(InfoKind::Vxlan.to_string())
}

/// Makes the device for this port and switches it on, where it is not there.
///
/// # Errors
///
/// [`JoinerError`]. What was made is removed then.
pub async fn open(port: u16, requests: &Requests) -> Result<(), JoinerError> {
    let name = name(port);
    let before = requests.device_named(&name).await?;
    let device = match &before {
        Some(device) if is_at_work(device) => return Ok(()),
        Some(device) if is_vxlan(device) => device.clone(),
        Some(device) => {
            let kind = device.kind.clone();
            return Err(JoinerError::OtherDevice { name, kind });
        }
        None => {
            // Before anything is made: devices that come and go would wake everybody.
            ensure_free(port)?;
            make(&name, port, requests).await?
        }
    };
    let set_up = set_up(&device, requests).await;
    if set_up.is_err() && before.is_none() {
        requests.remove_device(device.index).await?;
    }
    match set_up {
        Err(error) if error.errno() == Some(libc::EADDRINUSE) => Err(JoinerError::Taken { port }),
        other => Ok(other?),
    }
}

/// Removes the device for this port; answers whether there was one.
///
/// # Errors
///
/// [`NetlinkError`].
pub async fn remove(port: u16, requests: &Requests) -> Result<bool, NetlinkError> {
    let device = requests.device_named(&name(port)).await?;
    let Some(device) = device.filter(is_vxlan) else {
        return Ok(false);
    };
    requests.remove_device(device.index).await?;
    Ok(true)
}

async fn make(name: &str, port: u16, requests: &Requests) -> Result<Device, JoinerError> {
    let mut link = LinkMessage::default();
    let about = vec![
        InfoVxlan::CollectMetadata(true),
        InfoVxlan::Vnifilter(true),
        InfoVxlan::Learning(false),
        InfoVxlan::Port(port),
    ];
    link.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(about)),
        ]),
    ];
    let what = format!("make the vxlan device {name}, by whose socket frames are joined");
    let order = RouteNetlinkMessage::NewLink(link);
    requests
        .order(order, NLM_F_CREATE | NLM_F_EXCL, what)
        .await?;
    let made = requests.device_named(name).await?;
    Ok(made.ok_or_else(|| NetlinkError::Open(io::ErrorKind::NotFound.into()))?)
}

async fn set_up(device: &Device, requests: &Requests) -> Result<(), NetlinkError> {
    without_ipv6(device, requests).await?;
    // This makes its sockets, of both families.
    requests.set_up(device.index).await
}

fn ensure_free(port: u16) -> Result<(), JoinerError> {
    for address in [
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    ] {
        match UdpSocket::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(JoinerError::Taken { port });
            }
            // A family that this kernel does not have is the device's business.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}
