//! Is every length and every checksum of this frame right, outside and inside tunnels?
//!
//! Input: a frame as it was on a wire, or as a guest received it. Output: what is wrong, one line
//! each. Nothing here uses the code under test. What it cannot read it does not judge: that the
//! payload is the right one is for somebody else to say.

use crate::headers::{self, Headers, ICMPV6, TCP, UDP, folded, sum, word};

/// A frame of this many bytes may have padding behind its packet.
const SHORT: usize = 60;
const GENEVE_PORT: u16 = 6081;
const VXLAN_PORT: u16 = 4789;
const ETHERNET_INSIDE: u16 = 0x6558;
const IP: [[u8; 2]; 2] = [[0x08, 0x00], [0x86, 0xdd]];

/// What is wrong with a frame that is finished.
#[must_use]
pub fn faults(frame: &[u8]) -> Vec<String> {
    Judge {
        may_be_unfinished: false,
    }
    .ethernet(frame, "")
}

/// What is wrong with a frame whose innermost transport checksum may hold the pseudo-header's sum
/// still.
#[must_use]
pub fn faults_of_unfinished(frame: &[u8]) -> Vec<String> {
    Judge {
        may_be_unfinished: true,
    }
    .ethernet(frame, "")
}

struct Judge {
    may_be_unfinished: bool,
}

impl Judge {
    fn ethernet(&self, frame: &[u8], whose: &str) -> Vec<String> {
        let Some((_, kind)) = headers::ethernet(frame) else {
            return vec![format!("{whose}Ethernet header cut short")];
        };
        if !IP.contains(&kind) {
            return Vec::new();
        }
        match headers::find(frame) {
            Some(found) => self.ip(frame, &found, whose),
            None => vec![format!("{whose}IP header cut short")],
        }
    }

    fn ip(&self, frame: &[u8], found: &Headers, whose: &str) -> Vec<String> {
        let Headers {
            ip, transport, end, ..
        } = *found;
        let is_padded = frame.len() <= SHORT && end < frame.len();
        if end != frame.len() && !is_padded {
            let (told, is) = (end.wrapping_sub(ip), frame.len() - ip);
            return vec![format!("{whose}IP length {told} instead of {is}")];
        }
        if transport > end {
            return vec![format!("{whose}IP header longer than its packet")];
        }
        let mut faults = Vec::new();
        let version = if found.is_ipv6 { 6 } else { 4 };
        if frame[ip] >> 4 != version {
            faults.push(format!("{whose}IP version {}", frame[ip] >> 4));
        }
        if !found.is_ipv6 && folded(sum(&frame[ip..transport])) != 0xffff {
            faults.push(format!("{whose}IPv4 header checksum is wrong"));
        }
        if !found.is_fragment {
            faults.extend(self.transport(frame, found, whose));
        }
        faults
    }

    fn transport(&self, frame: &[u8], found: &Headers, whose: &str) -> Vec<String> {
        let is_known = matches!(found.protocol, TCP | UDP | ICMPV6);
        let (Some(offset), true) = (found.checksum_offset(), is_known) else {
            return Vec::new();
        };
        let packet = &frame[found.transport..found.end];
        let Some(checksum) = word(packet, offset) else {
            return vec![format!("{whose}transport header cut short")];
        };
        let mut faults = Vec::new();
        let told = usize::from(word(packet, 4).unwrap_or(0));
        if found.protocol == UDP && told != packet.len() {
            faults.push(format!(
                "{whose}UDP length {told} instead of {}",
                packet.len()
            ));
        }
        let tunnel = (found.protocol == UDP).then(|| tunnel(packet)).flatten();
        let pseudo = found.pseudo_sum(frame).unwrap_or(0);
        let is_right = folded(pseudo + sum(packet)) == 0xffff;
        let is_left_out =
            found.protocol == UDP && checksum == 0 && (tunnel.is_some() || !found.is_ipv6);
        let is_to_come = self.may_be_unfinished && tunnel.is_none() && checksum == folded(pseudo);
        if !is_right && !is_left_out && !is_to_come {
            faults.push(format!("{whose}transport checksum is wrong"));
        }
        if let Some(inner) = tunnel {
            match inner {
                Ok(inner) => faults.extend(self.ethernet(inner, &format!("{whose}inner "))),
                Err(fault) => faults.push(format!("{whose}{fault}")),
            }
        }
        faults
    }
}

/// The Ethernet frame in a tunnel's datagram; nothing where it is none.
fn tunnel(datagram: &[u8]) -> Option<Result<&[u8], String>> {
    let port = word(datagram, 2)?;
    let inside = datagram.get(8..)?;
    match port {
        GENEVE_PORT => geneve(inside),
        VXLAN_PORT => Some(inside.get(8..).ok_or("VXLAN header cut short".to_owned())),
        _ => None,
    }
}

fn geneve(inside: &[u8]) -> Option<Result<&[u8], String>> {
    let (Some(first), Some(protocol)) = (inside.first(), word(inside, 2)) else {
        return Some(Err("Geneve header cut short".to_owned()));
    };
    if first >> 6 != 0 {
        return Some(Err(format!("Geneve version {}", first >> 6)));
    }
    let options = 4 * usize::from(first & 0x3f);
    match inside.get(8 + options..) {
        None => Some(Err("Geneve options cut short".to_owned())),
        // Ours among ourselves: there is no frame inside.
        Some(_) if protocol != ETHERNET_INSIDE => None,
        Some(frame) => Some(Ok(frame)),
    }
}

#[cfg(test)]
mod tests {
    use super::{faults, faults_of_unfinished};
    use crate::build::build;
    use crate::finish::unfinished;
    use crate::stage::Stage;

    fn frame(layers: &[&str]) -> Vec<u8> {
        build(layers, &Stage::default(), None).unwrap().bytes
    }

    const HELLO: [&str; 4] = [
        "ethernet guest_one -> guest_two",
        "ipv6 guest_one -> guest_two",
        "tcp 1 -> 2",
        "payload 101",
    ];
    const TUNNEL: [&str; 5] = [
        "ethernet host_one -> host_two",
        "ipv4 host_one -> host_two",
        "udp flow -> geneve",
        "geneve 7",
        "option to_two",
    ];

    fn damaged(frame: &[u8], at: usize) -> Vec<String> {
        let mut frame = frame.to_vec();
        frame[at] ^= 0x10;
        faults(&frame)
    }

    #[test]
    fn a_frame_of_the_builder_is_sound_and_no_longer_with_a_bit_turned() {
        let whole = frame(&[TUNNEL.as_slice(), &HELLO].concat());
        assert_eq!(faults(&whole), Vec::<String>::new());
        // Lengths, checksums and what is in a sum: the IPv4 header, the UDP length, and everything
        // from the inner addresses on.
        let inner = 14 + 20 + 8 + 8 + 28;
        let summed = (14..34).chain(38..40).chain(inner + 18..inner + 20);
        for at in summed.chain(inner + 22..whole.len()) {
            assert!(!damaged(&whole, at).is_empty(), "byte {at}");
        }
        for length in 14..whole.len() {
            assert!(!faults(&whole[..length]).is_empty(), "{length} bytes");
        }
        let longer = [whole.as_slice(), &[0]].concat();
        assert!(!faults(&longer).is_empty());
    }

    #[test]
    fn an_unfinished_frame_is_told_apart() {
        let whole = frame(&HELLO);
        let mut left = unfinished(&whole).unwrap().bytes;
        assert_eq!(faults(&left), ["transport checksum is wrong"]);
        assert_eq!(faults_of_unfinished(&left), Vec::<String>::new());
        assert_eq!(faults_of_unfinished(&whole), Vec::<String>::new());
        left[14 + 40 + 16] ^= 1;
        assert!(!faults_of_unfinished(&left).is_empty());
    }

    #[test]
    fn neighbours_fragments_and_padding_are_sound() {
        let to_group = "ethernet guest_one -> 33:33:ff:00:00:03";
        let asking = [
            "ipv6 guest_one -> ff02::1:ff00:3 hops=255",
            "neighbour guest_one -> guest_two",
        ];
        let neighbour = frame(&[[to_group].as_slice(), &asking].concat());
        assert_eq!(faults(&neighbour), Vec::<String>::new());
        assert!(!damaged(&neighbour, neighbour.len() - 1).is_empty());
        let later = [
            "ipv6 guest_one -> guest_two",
            "fragment 17 offset=100 id=5",
            "payload 64",
        ];
        let later = frame(&[[HELLO[0]].as_slice(), &later].concat());
        assert_eq!(faults(&later), Vec::<String>::new());
        let short = [
            "ipv4 guest_one -> guest_two",
            "udp 1 -> 2",
            "payload 4",
            "padding 14",
        ];
        let short = frame(&[[HELLO[0]].as_slice(), &short].concat());
        assert_eq!((short.len(), faults(&short)), (60, Vec::new()));
    }
}
