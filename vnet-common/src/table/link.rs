//! How is a frame sent over a link? Maps `LINKS` and `SENDERS`, by link id.

use super::plain;
use crate::addr::LinkId;
use crate::wire::slow::Slow;

/// Room for outer headers: Ethernet 14, IPv6 40, UDP 8, Geneve 8, option 28.
pub const HEADER_ROOM: usize = 98;

plain! {
    /// Everything before the inner frame, prepared whole, and where to send it.
    ///
    /// Written by the agent, whenever the next hop changes too; read by the programs. Lengths,
    /// the outer TTL, the IPv4 checksum, the UDP source port and, in the option, stream, sequence
    /// and send time are filled in for each frame.
    pub struct LinkEntry[128] {
        /// The device to send on; 0 where the next hop is not known.
        pub device: u32,
        /// The link's place in `LEDGERS`.
        pub ledger: u32,
        /// Bits of [`LinkEntry::IPV6`] and the others.
        pub flags: u32,
        /// The largest inner frame, Ethernet header included, that fits through the underlay.
        pub frame_bytes_max: u32,
        /// One's complement sum of the IPv4 header with length, TTL and checksum zero.
        pub ipv4_sum: u32,
        /// While its path is dead: one more than the id of the link that its frames take; else 0. So
        /// one write turns all rules and flows that lead to it.
        pub instead: u32,
        /// Outer Ethernet, IP, UDP and Geneve headers and the option, from the start.
        pub header: [u8; HEADER_ROOM],
        /// Zero.
        pub _pad: [u8; 2],
        /// Where it is another way to the same end: one more than the id of the link whose frames it
        /// carries; else 0. What comes by it came over that link.
        pub rung_of: u32,
    }
}

impl LinkEntry {
    /// The slot is in use.
    pub const UP: u32 = 1;
    /// IPv6 outside.
    pub const IPV6: u32 = 2;
    /// Without the option: the other end is not ours.
    pub const PLAIN: u32 = 4;
    /// Every frame carries its send time.
    pub const STAMP: u32 = 8;
    /// The agent carries it: frames go up to its tap, which is the device, without outer headers.
    pub const AGENT: u32 = 16;

    /// A link that is not there.
    pub const NONE: Self = Self {
        device: 0,
        ledger: 0,
        flags: 0,
        frame_bytes_max: 0,
        ipv4_sum: 0,
        instead: 0,
        header: [0; HEADER_ROOM],
        _pad: [0; 2],
        rung_of: 0,
    };

    /// The link that its frames take while its path is dead.
    #[inline(always)]
    pub const fn instead(&self) -> Option<LinkId> {
        match self.instead.checked_sub(1) {
            Some(id) => Some(LinkId(id)),
            None => None,
        }
    }

    /// The same entry, whose frames take that link.
    #[must_use]
    pub const fn with_instead(self, link: Option<LinkId>) -> Self {
        let instead = match link {
            Some(LinkId(id)) => id.wrapping_add(1),
            None => 0,
        };
        Self { instead, ..self }
    }

    /// The link that frames over this one, which is `id`, belong to: it, or the one that it is a rung
    /// of.
    #[inline(always)]
    pub const fn whole(&self, id: LinkId) -> LinkId {
        match self.rung_of.checked_sub(1) {
            Some(whole) => LinkId(whole),
            None => id,
        }
    }

    /// The same entry, as a rung of that link.
    #[must_use]
    pub const fn with_rung_of(self, link: Option<LinkId>) -> Self {
        let rung_of = match link {
            Some(LinkId(id)) => id.wrapping_add(1),
            None => 0,
        };
        Self { rung_of, ..self }
    }

    /// Bytes of outer headers for links of this kind, outer Ethernet included.
    pub const fn header_bytes(flags: u32) -> usize {
        match (flags & Self::IPV6 != 0, flags & Self::PLAIN != 0) {
            (false, false) => 78,
            (false, true) => 50,
            (true, false) => 98,
            (true, true) => 70,
        }
    }
}

plain! {
    /// What one CPU has sent over a link: the count doubles as the sequence in the option, so
    /// that CPUs share no counter.
    ///
    /// Written by the programs, per CPU.
    pub struct Sender[16] {
        /// Packets with an option, probes included; the low 24 bits are the next sequence.
        pub sequence: u64,
        /// Until when the link's budget for reports of frames that are too big is used up, on the
        /// kernel's monotonic clock.
        pub told_until_ns: u64,
    }
}

impl Sender {
    /// Nanoseconds of the budget that one report uses up: a hundred a second, for each CPU.
    pub const TELL_COST_NS: u32 = 10_000_000;
    /// How many nanoseconds' worth may be used at once: fifty reports.
    pub const TELL_BURST_NS: u32 = 500_000_000;
}

/// The largest frame that the agent carries: with its header it just passes a tap of the largest
/// MTU.
pub const CARRIED_BYTES_MAX: u32 = 65_521 + 14 - Slow::BYTES as u32;

/// The largest number of links that the tables may be made for.
pub const LINKS_MAX: u32 = 4096;

/// The first link id; ids are dense from here.
pub const FIRST: LinkId = LinkId(0);
