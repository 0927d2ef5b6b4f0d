//! Where does the frame to be traced come in?
//!
//! Input: the request. Output: the program that would get it, the device, and the bytes as they
//! would arrive there; for a link, in the packet that its other end would send.

use vnet_common::addr::{Cookie, LinkId, NetworkId};
use vnet_common::entropy::Entropy;
use vnet_common::table::link::LinkEntry;
use vnet_common::wire::ethernet::Ethernet;
use vnet_common::wire::slow::Slow;
use vnet_ebpf::frame::Frame;
use vnet_ebpf::frame::heap::HeapFrame;
use vnet_ebpf::step::deliver::HOP_LIMIT;
use vnet_ebpf::step::encap::{Outside, encap};
use vnet_ebpf::tables::heap::HeapTables;
use zerocopy::{FromBytes, IntoBytes};

use crate::act::reconcile::header::{Endpoint, Path, link_entry};
use crate::agent::Agent;
use crate::api::{Place, Refusal, TraceRequest};
use crate::model::attachment::Role;
use crate::model::host::Device;
use crate::model::{Addresses, Link};

/// Where the frame meets a program, and what is inside.
pub(super) struct Entrance {
    pub(super) from: Place,
    pub(super) role: Role,
    pub(super) device: u32,
    /// As it comes in on the device.
    pub(super) bytes: Vec<u8>,
    /// The guest's frame, where that is not the same.
    pub(super) inner: Vec<u8>,
    pub(super) network: Option<NetworkId>,
}

impl Agent {
    pub(super) fn entrance(&self, request: &TraceRequest) -> Result<Entrance, Refusal> {
        let frame = &request.frame.0;
        let from = match &request.from {
            Some(place) => place.clone(),
            None => self.port_of_source(frame)?,
        };
        match &from {
            Place::Port(name) => {
                let device = self.port_device(name)?;
                let network = self
                    .reconciler
                    .now()
                    .ports
                    .get(&device.index)
                    .map(|port| port.network);
                let (bytes, inner) = (frame.clone(), frame.clone());
                Ok(Entrance {
                    role: Role::Port,
                    device: device.index,
                    bytes,
                    inner,
                    network,
                    from,
                })
            }
            Place::Underlay(name) => {
                let index = self.host.device_named(name).map(|device| device.index);
                let Some(device) = index.filter(|index| self.desired.underlay == Some(*index))
                else {
                    return Err(Refusal::not_found(format!(
                        "{name} is not the underlay device"
                    )));
                };
                let (bytes, inner) = (frame.clone(), Vec::new());
                Ok(Entrance {
                    role: Role::Underlay,
                    device,
                    bytes,
                    inner,
                    network: None,
                    from,
                })
            }
            Place::Link(name) => {
                let name = name.clone();
                self.link_entrance(request, from, &name)
            }
            Place::Agent => Err(Refusal::invalid(
                "the agent's own frames follow no rules".to_owned(),
            )
            .cure("trace from a port, a link or an underlay device")),
        }
    }

    /// The port that lists the frame's source, or has learned it.
    fn port_of_source(&self, frame: &[u8]) -> Result<Place, Refusal> {
        let cure = "say where the frame comes in: --from DEVICE or --from link:NAME";
        let (header, _) = Ethernet::read_from_prefix(frame)
            .map_err(|_| Refusal::invalid("the frame is shorter than an Ethernet header"))?;
        let found = self.devices.iter().find(|taken| {
            let port = self.configuration.ports.get(taken.port);
            taken.learned == Some(header.source)
                || port.is_some_and(|port| match &port.addresses {
                    Addresses::Only(list) => list.contains(&header.source),
                    _ => false,
                })
        });
        match found {
            Some(taken) => Ok(Place::Port(taken.name.clone())),
            None => Err(Refusal::not_found(format!(
                "no port here has the address {}",
                header.source
            ))
            .cure(cure)),
        }
    }

    fn port_device(&self, name: &str) -> Result<&Device, Refusal> {
        let device = self.host.device_named(name);
        device
            .filter(|device| self.reconciler.now().ports.contains_key(&device.index))
            .ok_or_else(|| {
                let ports = self.devices.iter().map(|taken| taken.name.as_str());
                Refusal::not_found(format!("{name} is not a port")).cure(format!(
                    "the ports here are: {}",
                    ports.collect::<Vec<_>>().join(", ")
                ))
            })
    }

    /// The packet that the other end of the link would send for this frame.
    fn link_entrance(
        &self,
        request: &TraceRequest,
        from: Place,
        name: &str,
    ) -> Result<Entrance, Refusal> {
        let link = self.configuration.link(name).ok_or_else(|| {
            let links = self
                .configuration
                .links
                .iter()
                .map(|link| link.name.as_str());
            Refusal::not_found(format!("there is no link {name}")).cure(format!(
                "the links here are: {}",
                links.collect::<Vec<_>>().join(", ")
            ))
        })?;
        let network = match (&request.network, link.networks.as_slice()) {
            (Some(network), _) => network,
            (None, [only]) => only,
            (None, _) => {
                return Err(
                    Refusal::invalid(format!("link {name} carries several networks"))
                        .cure("name one: --network NAME"),
                );
            }
        };
        let network = self
            .configuration
            .network(network)
            .ok_or_else(|| self.unknown_network(network))?;
        if link.kind.is_carried() {
            return self.carried_entrance(request, from, link, network.id);
        }
        let device = self
            .desired
            .underlay
            .and_then(|index| self.host.devices.get(&index));
        let (Some(device), Some(local)) = (device, self.local_address(link.remote)) else {
            return Err(Refusal::unavailable("there is no underlay device now"));
        };
        let mac = device.mac.unwrap_or_default();
        let path = Path {
            local: Endpoint {
                mac,
                address: link.remote,
            },
            remote: Endpoint {
                mac,
                address: local,
            },
            device: device.index,
            mtu: u32::from(u16::MAX),
            udp_port: self.configuration.underlay.udp_port,
            cookie: link.cookie.unwrap_or(Cookie::NONE),
        };
        let bytes = link_entry(&path, 0)
            .and_then(|entry| wrapped(&request.frame.0, &entry, network.id))
            .ok_or_else(|| Refusal::invalid("the frame does not fit into a packet"))?;
        Ok(Entrance {
            from,
            role: Role::Underlay,
            device: device.index,
            bytes,
            inner: request.frame.0.clone(),
            network: Some(network.id),
        })
    }
}

impl Agent {
    /// What the agent writes to its tap when this frame has been carried here.
    fn carried_entrance(
        &self,
        request: &TraceRequest,
        from: Place,
        link: &Link,
        network: NetworkId,
    ) -> Result<Entrance, Refusal> {
        let mut slots = self.desired.image.networks.iter();
        let slot = slots.find(|(_, entry)| entry.id == network.get());
        let (Some((&slot, _)), Some(&id)) = (slot, self.desired.links.get(&link.name)) else {
            let message = format!("the tables have no link {} now", link.name);
            return Err(Refusal::unavailable(message));
        };
        let header = Slow::arrived(HOP_LIMIT, network, slot, id);
        let inner = request.frame.0.clone();
        Ok(Entrance {
            from,
            role: Role::Agent,
            device: self.tap.index,
            bytes: [header.as_bytes(), &inner].concat(),
            inner,
            network: Some(network),
        })
    }
}

/// The frame in a packet with these headers.
fn wrapped(frame: &[u8], entry: &LinkEntry, network: NetworkId) -> Option<Vec<u8>> {
    let mut packet = HeapFrame::new(0, frame);
    u16::try_from(packet.length()).ok()?;
    let [_, a, b, c] = network.get().to_be_bytes();
    let outside = Outside {
        hop_limit: HOP_LIMIT,
        network: [a, b, c],
        entropy: Entropy::new(),
        copy: 0,
    };
    encap(
        &mut packet,
        &HeapTables::default(),
        LinkId(0),
        entry,
        &outside,
    )
    .ok()?;
    Some(packet.bytes().to_vec())
}
