//! How do we ask the kernel, and what does it answer?
//!
//! Input: questions and orders of the agent. Output: what the kernel answers, as values of
//! [`crate::model`], or an error that says what was asked, what it answered, and what it wants.

use std::fmt::{self, Display};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkExtentMask, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_proto::ConnectionHandle;
use netlink_sys::{AsyncSocket, SocketAddr, protocols::NETLINK_ROUTE};
use rtnetlink::LinkUnspec;

use super::abilities::Asker;
use super::decode;
use super::events::event;
use super::view::Event;
use crate::model::host::{Change, Device};
use crate::model::next_hop::{Neighbour, NeighbourKey, Route};

/// Longer than any answer takes, a dump of a large host included.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a dump is begun again because the list changed meanwhile.
const DUMPS_MAX: u32 = 5;

/// Why the kernel did not do or tell what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No netlink socket.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// The kernel said no.
    #[error("cannot {what}: {source}{said}{}", cure(.source))]
    Refused {
        /// What it was asked to do.
        what: String,
        /// Its error number.
        source: io::Error,
        /// Its own words about it, if it had any.
        said: Said,
    },
    /// The kernel did not answer.
    #[error("cannot {what}: the kernel has not answered for {} s", PATIENCE.as_secs())]
    Silent {
        /// What it was asked.
        what: String,
    },
    /// The socket broke. The next question goes by a new one.
    #[error("cannot {what}: the netlink socket broke; there is a new one now")]
    Closed {
        /// What was to be asked.
        what: String,
    },
}

impl NetlinkError {
    /// The kernel's error number, if it gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } | Self::Open(source) => source.raw_os_error(),
            Self::Silent { .. } | Self::Closed { .. } => None,
        }
    }
}

/// The kernel's own words about an error; mostly it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said(Option<String>);

impl Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .as_ref()
            .map_or(Ok(()), |words| write!(f, " (the kernel says: {words})"))
    }
}

fn cure(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => "; it needs CAP_NET_ADMIN",
        _ => "",
    }
}

/// A socket to ask the kernel about the network namespace that it was opened in.
///
/// Clones share the socket. It needs the runtime, and the thread's namespace, that it was opened
/// in.
#[derive(Clone, Debug)]
pub struct Requests {
    connection: Arc<Mutex<ConnectionHandle<RouteNetlinkMessage>>>,
    abilities: Arc<Asker>,
}

/// A full list, and whether it is one: a list that kept changing while it was read may lack
/// entries that nothing was said about.
pub(super) struct Listed {
    pub(super) events: Vec<Event>,
    pub(super) complete: bool,
}

impl Requests {
    /// Opens the socket in the network namespace of the calling thread, and serves it by a task
    /// of the current runtime that ends with the last clone.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Open`].
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            connection: Arc::new(Mutex::new(connect()?)),
            abilities: Arc::new(Asker::open().map_err(NetlinkError::Open)?),
        })
    }

    /// The device of this index, as it is now; none where there is no such device.
    ///
    /// # Errors
    ///
    /// [`NetlinkError`]; not for a device that does not exist.
    pub async fn device(&self, index: u32) -> Result<Option<Device>, NetlinkError> {
        let link = LinkUnspec::new_with_index(index).build();
        self.one_device(link, format!("look at device {index}"))
            .await
    }

    /// The device of this name, as it is now; none where there is no such device.
    ///
    /// # Errors
    ///
    /// [`NetlinkError`]; not for a device that does not exist.
    pub async fn device_named(&self, name: &str) -> Result<Option<Device>, NetlinkError> {
        let link = LinkUnspec::new_with_name(name).build();
        self.one_device(link, format!("look at device {name}"))
            .await
    }

    async fn one_device(
        &self,
        mut link: LinkMessage,
        what: String,
    ) -> Result<Option<Device>, NetlinkError> {
        link.attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let answer = self
            .exchange(RouteNetlinkMessage::GetLink(link), 0, what)
            .await;
        match answer {
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
            Ok(answer) => {
                let mut found = answer.iter().find_map(|message| match message {
                    RouteNetlinkMessage::NewLink(link) => decode::device(link),
                    _ => None,
                });
                if let Some(device) = &mut found {
                    self.abilities.complete(device);
                }
                Ok(found)
            }
        }
    }

    /// Sets the MTU of a device, in bytes.
    ///
    /// # Errors
    ///
    /// [`NetlinkError`]: among others EINVAL for an MTU beyond what the driver accepts.
    pub async fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        let link = LinkUnspec::new_with_index(index).mtu(mtu).build();
        let what = format!("set the MTU of device {index} to {mtu}");
        self.order(RouteNetlinkMessage::SetLink(link), 0, what)
            .await
    }

    /// Switches a device on.
    ///
    /// # Errors
    ///
    /// [`NetlinkError`].
    pub async fn set_up(&self, index: u32) -> Result<(), NetlinkError> {
        let link = LinkUnspec::new_with_index(index).up().build();
        let what = format!("switch device {index} on");
        self.order(RouteNetlinkMessage::SetLink(link), 0, what)
            .await
    }

    /// Removes a device, if it is there.
    pub(in crate::world) async fn remove_device(&self, index: u32) -> Result<(), NetlinkError> {
        let link = LinkUnspec::new_with_index(index).build();
        let what = format!("remove device {index}");
        match self
            .order(RouteNetlinkMessage::DelLink(link), 0, what)
            .await
        {
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(()),
            other => other,
        }
    }

    /// Keeps the kernel from giving a device IPv6 addresses of its own making.
    ///
    /// # Errors
    ///
    /// [`NetlinkError`]: EAFNOSUPPORT or EOPNOTSUPP where the device or the kernel has no IPv6.
    pub async fn set_no_automatic_addresses(&self, index: u32) -> Result<(), NetlinkError> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        let ipv6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        link.attributes
            .push(LinkAttribute::AfSpecUnspec(vec![ipv6]));
        let what = format!("keep device {index} without IPv6 addresses");
        self.order(RouteNetlinkMessage::SetLink(link), 0, what)
            .await
    }

    /// The route that the kernel takes to a destination; none where it has none.
    pub(super) async fn route(&self, to: IpAddr) -> Result<Option<Route>, NetlinkError> {
        let mut route = RouteMessage::default();
        let (address, family, bits) = match to {
            IpAddr::V4(ip) => (RouteAddress::Inet(ip), AddressFamily::Inet, 32),
            IpAddr::V6(ip) => (RouteAddress::Inet6(ip), AddressFamily::Inet6, 128),
        };
        route.header.address_family = family;
        route.header.destination_prefix_length = bits;
        route.attributes.push(RouteAttribute::Destination(address));
        let what = format!("find the route to {to}");
        match self
            .exchange(RouteNetlinkMessage::GetRoute(route), 0, what)
            .await
        {
            Ok(answer) => Ok(answer.iter().find_map(|message| match message {
                RouteNetlinkMessage::NewRoute(route) => decode::route(route),
                _ => None,
            })),
            // Each way to have no route has its error: none, unreachable, prohibit, blackhole, a
            // kernel without IPv6.
            Err(NetlinkError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A neighbour as it is now (kernel 5.0); none where the kernel has no entry for it.
    pub(super) async fn neighbour(
        &self,
        (ifindex, address): NeighbourKey,
    ) -> Result<Option<Neighbour>, NetlinkError> {
        let question = neighbour_message((ifindex, address));
        let what = format!("look at neighbour {address} on device {ifindex}");
        match self
            .exchange(RouteNetlinkMessage::GetNeighbour(question), 0, what)
            .await
        {
            Ok(answer) => Ok(answer.iter().find_map(|message| match message {
                RouteNetlinkMessage::NewNeighbour(entry) => Some(decode::neighbour(entry)?.1),
                _ => None,
            })),
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All devices, addresses and neighbours, each list in the kernel's order.
    pub(super) async fn everything(&self) -> Result<Listed, NetlinkError> {
        let mut link = LinkMessage::default();
        link.attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let mut listed = self
            .list(
                RouteNetlinkMessage::GetLink(link),
                "list devices".to_owned(),
            )
            .await?;
        let addresses = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        for part in [
            self.list(addresses, "list addresses".to_owned()).await?,
            self.neighbours().await?,
        ] {
            listed.events.extend(part.events);
            listed.complete &= part.complete;
        }
        Ok(listed)
    }

    /// All neighbours of IP addresses.
    pub(super) async fn neighbours(&self) -> Result<Listed, NetlinkError> {
        let question = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        self.list(question, "list neighbours".to_owned()).await
    }

    /// Begins again while the list changes under the reader's eyes.
    async fn list(
        &self,
        question: RouteNetlinkMessage,
        what: String,
    ) -> Result<Listed, NetlinkError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let answer = self
                .answer(question.clone(), NLM_F_DUMP, what.clone())
                .await?;
            let complete = !answer
                .iter()
                .any(|(header, _)| header.flags & NLM_F_DUMP_INTR != 0);
            if complete || tries == DUMPS_MAX {
                let events = answer
                    .iter()
                    .filter_map(|(_, message)| event(message.as_ref()?))
                    .map(|event| self.completed(event));
                return Ok(Listed {
                    events: events.collect(),
                    complete,
                });
            }
        }
    }

    /// With what the kernel tells of a device only when asked.
    pub(super) fn completed(&self, mut event: Event) -> Event {
        if let Event::Host(Change::Device(device)) = &mut event {
            self.abilities.complete(device);
        }
        event
    }

    /// Orders something and waits until the kernel says that it is done.
    pub(in crate::world) async fn order(
        &self,
        order: RouteNetlinkMessage,
        flags: u16,
        what: String,
    ) -> Result<(), NetlinkError> {
        self.answer(order, NLM_F_ACK | flags, what)
            .await
            .map(|_| ())
    }

    async fn exchange(
        &self,
        question: RouteNetlinkMessage,
        flags: u16,
        what: String,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let answer = self.answer(question, flags, what).await?;
        Ok(answer
            .into_iter()
            .filter_map(|(_, message)| message)
            .collect())
    }

    /// All messages of the kernel's answer; none stands for the one that ends a list.
    async fn answer(
        &self,
        question: RouteNetlinkMessage,
        flags: u16,
        what: String,
    ) -> Result<Vec<(NetlinkHeader, Option<RouteNetlinkMessage>)>, NetlinkError> {
        let mut message = NetlinkMessage::from(question);
        message.header.flags = NLM_F_REQUEST | flags;
        let connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Ok(mut stream) = connection.request(message, SocketAddr::new(0, 0)) else {
            return Err(self.reopen(what));
        };
        let mut messages = Vec::new();
        let collect = async {
            while let Some(message) = stream.next().await {
                let (header, payload) = message.into_parts();
                match payload {
                    NetlinkPayload::InnerMessage(message) => messages.push((header, Some(message))),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err((error.to_io(), said(&error)));
                    }
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        let error = io::Error::from_raw_os_error(-done.code);
                        return Err((error, words(&done.extended_ack)));
                    }
                    _ => messages.push((header, None)),
                }
            }
            Ok(())
        };
        match tokio::time::timeout(PATIENCE, collect).await {
            Err(_) => Err(NetlinkError::Silent { what }),
            Ok(Err((source, said))) => Err(NetlinkError::Refused { what, source, said }),
            // A question has at least one answer; an order is acknowledged in silence.
            Ok(Ok(())) if messages.is_empty() && flags & NLM_F_ACK == 0 => Err(self.reopen(what)),
            Ok(Ok(())) => Ok(messages),
        }
    }

    /// Opens a new socket for the next question; this one is lost.
    fn reopen(&self, what: String) -> NetlinkError {
        match connect() {
            Ok(connection) => {
                *self
                    .connection
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = connection;
                NetlinkError::Closed { what }
            }
            Err(error) => error,
        }
    }
}

fn connect() -> Result<ConnectionHandle<RouteNetlinkMessage>, NetlinkError> {
    let (mut serve, connection, _unasked) =
        netlink_proto::new_connection(NETLINK_ROUTE).map_err(NetlinkError::Open)?;
    // The end of a list carries the last word on whether the list was interrupted.
    serve.set_forward_done(true);
    let socket = serve.socket_mut().socket_ref();
    // Without these (kernel 4.12) errors are numbers only.
    if let Err(error) = socket
        .set_cap_ack(true)
        .and_then(|()| socket.set_ext_ack(true))
    {
        tracing::debug!(%error, "netlink: the kernel will not explain its errors");
    }
    tokio::spawn(serve);
    Ok(connection)
}

/// A message about one neighbour, to be filled in further.
pub(super) fn neighbour_message((ifindex, address): NeighbourKey) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = ifindex;
    message.header.family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    message
        .attributes
        .push(NeighbourAttribute::Destination(address.into()));
    message
}

/// What follows the header of the request in an error message.
fn said(error: &ErrorMessage) -> Said {
    words(
        error
            .header
            .get(size_of::<libc::nlmsghdr>()..)
            .unwrap_or_default(),
    )
}

/// `NLMSGERR_ATTR_MSG` (linux/netlink.h) among the attributes of an extended acknowledgement.
fn words(attributes: &[u8]) -> Said {
    const MESSAGE: u16 = 1;
    let text = NlasIterator::new(attributes)
        .map_while(Result::ok)
        .find_map(|attribute| {
            let text = attribute.value().strip_suffix(&[0])?;
            (attribute.kind() == MESSAGE).then(|| String::from_utf8_lossy(text).into_owned())
        });
    Said(text)
}
