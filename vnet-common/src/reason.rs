//! Why was a frame dropped, passed up or answered?
//!
//! One enum for the kernel's programs, the agent's slow path, the CLI and the metrics. The numbers
//! index the counters of a ledger and are part of the schema: never reuse one, add at the end.

use core::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $text:literal;)+) => {
        /// Why a frame ended here.
        ///
        /// As wide as what a journey returns on success, so that a result has no undefined half
        /// (see `Outcome` in `vnet-ebpf`).
        #[repr(u64)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant = $number,)+
        }

        impl Reason {
            /// Every reason, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in JSON, metrics and on the command line: stable.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What happened, and where an admin would look, in one sentence.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The reason with this number.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

reasons! {
    /// Shorter than an Ethernet header.
    Runt = 0, "runt", "shorter than an Ethernet header";
    /// The source address is a group's or zero.
    InvalidSource = 1, "invalid-source", "the source is a group address or zero, which no station has";
    /// Port security: the source is not one of the port's addresses.
    ForeignSource = 2, "foreign-source", "the source is not one of the port's addresses; see its `addresses` in the settings";
    /// No rule matches.
    NoRule = 3, "no-rule", "no rule matches; add one, or a default rule (destination none)";
    /// A rule says so.
    Rule = 4, "rule", "a rule says drop";
    /// The frame would go back to where it came from, or is a copy of one that has been here.
    Reflection = 5, "reflection", "it leads back to where it came from, or has been here before";
    /// The rule names a port whose device does not exist now.
    PortAbsent = 6, "port-absent", "the rule leads to a port whose device does not exist now";
    /// The rule names a link that is not there.
    LinkAbsent = 7, "link-absent", "the rule leads to a link that is not there";
    /// The next hop of the link is not known (yet).
    LinkUnresolved = 8, "link-unresolved", "the link has no way to its other end now: no route, a neighbour that does not answer, or (tcp, tls) no connection";
    /// Nothing takes the slow path.
    NoAgent = 9, "no-agent", "broadcasts and unknown destinations go to the agent, and it has no tap now";
    /// With the outer headers it would not fit through the underlay.
    TooBig = 10, "too-big", "larger than its way carries; lower the MTU in the guest to the one that `status` names";
    /// The overlay hop count ran out: a loop.
    HopLimit = 11, "hop-limit", "the outer TTL ran out: the rules form a loop";
    /// The port used up its share of the slow path.
    SlowPathRate = 12, "slow-path-rate", "the port sends more broadcasts and unknown destinations than its slow_path_rate";
    /// There was no room for outer headers.
    NoHeadroom = 13, "no-headroom", "the driver left no room for the outer headers";
    /// A port's device is not in the table (yet, or any more).
    UnknownPort = 14, "unknown-port", "came in on a device that is no port now";
    /// Outer IPv4 header: bad length or checksum.
    OuterHeader = 15, "outer-header", "the outer IP or UDP header lies about its lengths, or its checksum is wrong";
    /// A fragment of an outer packet.
    OuterFragment = 16, "outer-fragment", "the outer packet was fragmented on its way; lower the underlay's MTU or raise it everywhere";
    /// Geneve: bad version or lengths.
    Geneve = 17, "geneve", "not a Geneve header that fits the packet";
    /// Geneve: a critical option that we do not know (RFC 8926, section 3.5).
    CriticalOption = 18, "critical-option", "has a Geneve option that is marked critical and not known here";
    /// Source address and network name no link.
    UnknownPeer = 19, "unknown-peer", "its source address and network belong to no link of this host";
    /// The link wants a cookie and there was none.
    NoCookie = 20, "no-cookie", "the link wants a cookie and the packet has none; is the other end `plain`?";
    /// The cookie is wrong.
    WrongCookie = 21, "wrong-cookie", "the cookie is wrong: both ends of a link need the same";
    /// Inside is no Ethernet frame.
    NotEthernet = 22, "not-ethernet", "the Geneve packet carries something else than an Ethernet frame";
    /// A control packet that is no probe.
    UnknownControl = 23, "unknown-control", "a control packet of an unknown kind";
    /// The header between agent and program is wrong.
    SlowHeader = 24, "slow-header", "a frame on the agent's tap without the agent's header";
    /// The network is not known here.
    UnknownNetwork = 25, "unknown-network", "its network does not exist on this host";
    /// The kernel refused a redirect.
    RedirectFailed = 26, "redirect-failed", "the kernel could not hand the frame to this device: gone, down, smaller MTU, or a veth whose other end has neither GRO nor XDP";
    /// The agent's queue was full.
    QueueFull = 27, "queue-full", "the agent's queue was full";
    /// A frame for many that no port or link takes.
    NoReceiver = 28, "no-receiver", "a frame for many, and no port or link here takes it";
    /// More VLAN tags than the TC door can move into the frame.
    NestedTags = 29, "nested-tags", "more than two VLAN tags, at a TC door";
    /// Datagrams that somebody joined on the way, and Linux does not part behind a TC door.
    JoinedDatagrams = 30, "joined-datagrams", "UDP datagrams that came through the tunnel joined into one packet, at a TC door: let the underlay have an XDP door, or switch UDP segmentation of tunnels off where they come from";
    /// One frame that would be cut into a flood.
    ManySegments = 31, "many-segments", "the guest wants its frame cut into more than 128 packets";
}

impl Reason {
    /// Room for counters in a ledger: a power of two above the largest number, with some to grow.
    pub const ROOM: usize = 32;

    /// The number that indexes counters.
    #[inline(always)]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The reason with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.name() == name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Reason {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        extern crate alloc;
        let name = alloc::borrow::Cow::<str>::deserialize(from)?;
        Self::from_name(&name).ok_or_else(|| serde::de::Error::custom("an unknown reason"))
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn numbers_and_names_are_dense_and_unique() {
        assert!(Reason::ALL.len() <= Reason::ROOM);
        for (place, &reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(usize::from(reason.number()), place);
            assert_eq!(Reason::from_number(reason.number()), Some(reason));
            assert_eq!(Reason::from_name(reason.name()), Some(reason));
        }
    }
}
