//! How is this data plane set up to be measured?
//!
//! As the manual says: an agent on each host with a settings file, one network, one port, one link
//! with a cookie. Flows and everything else are counted as always; only what the kernel refuses
//! after a redirect may go uncounted by one agent or by both (see [`XDP`]). The doors are named, since
//! "auto" chooses by what a device is, and would not take the same one for every bed.

use anyhow::Result;
use lab::{Agent, Host, Mac};
use vnet_agent::identity::Role;

use crate::bed::{ADDRESSES, Bed, CABLE};
use crate::constellation::Papers;
use crate::frame::{GUEST_ONE, GUEST_TWO};

/// What differs between the ways that go through this data plane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    /// The door of the guest's port.
    pub port: &'static str,
    /// The door of the cable.
    pub underlay: &'static str,
    /// Whether the agents count what the kernel refuses.
    pub count_refused: [bool; 2],
}

/// XDP everywhere, as on two machines: who counts refusals at every batch watches the whole kernel,
/// and so the redirects of both hosts. Were the other agent to count as well, each frame would pay
/// for both twice.
pub(super) const XDP: Setup = Setup {
    port: "xdp",
    underlay: "xdp",
    count_refused: [true, false],
};

/// TC everywhere.
pub(super) const TC: Setup = Setup {
    port: "tc",
    underlay: "tc",
    count_refused: [true, true],
};

/// XDP takes the headers off and passes up what TC then delivers: so a receiver joins the frames
/// of the guests.
const JOINED: Setup = Setup {
    underlay: "xdp",
    ..TC
};

/// As [`lay`], over a cable that joins: a NIC does, a veth only when told.
pub(super) fn lay_joined(bed: &Bed) -> Result<[Agent; 2]> {
    for host in bed.hosts() {
        host.run(["ethtool", "-K", CABLE, "gro", "on"])?;
    }
    lay(bed, JOINED)
}

pub(super) fn lay(bed: &Bed, setup: Setup) -> Result<[Agent; 2]> {
    let [counts_one, counts_two] = setup.count_refused;
    let [to_two, to_one] = ends(bed);
    Ok([
        bed.one.agent(&settings(setup, counts_one, to_two))?,
        bed.two.agent(&settings(setup, counts_two, to_one))?,
    ])
}

/// TC everywhere, over a link that the agents carry: `tcp` or `tls`.
///
/// # Errors
///
/// An agent does not start.
pub fn lay_carried(bed: &Bed, kind: &str) -> Result<[Agent; 2]> {
    let papers = Papers::new()?;
    let agent = |host: &Host, ends: Ends| {
        let name = host.name();
        let identity = papers.of(host, name, Role::Agent)?;
        let text = settings(TC, true, ends)
            .replace(
                "[agent]\n",
                &format!("[agent]\nidentity = \"{}\"\n", identity.display()),
            )
            .replace("[[link]]\n", &format!("[[link]]\nkind = \"{kind}\"\n"));
        host.agent(&text)
    };
    let [to_two, to_one] = ends(bed);
    Ok([agent(&bed.one, to_two)?, agent(&bed.two, to_one)?])
}

#[derive(Clone, Copy)]
struct Ends {
    port: &'static str,
    own_guest: Mac,
    other_host: &'static str,
    other_guest: Mac,
}

/// The link's two ends: host one's and host two's.
fn ends(bed: &Bed) -> [Ends; 2] {
    let [one, two] = ADDRESSES;
    let to_two = Ends {
        port: bed.port,
        own_guest: GUEST_ONE,
        other_host: two,
        other_guest: GUEST_TWO,
    };
    let to_one = Ends {
        port: bed.port,
        own_guest: GUEST_TWO,
        other_host: one,
        other_guest: GUEST_ONE,
    };
    [to_two, to_one]
}

fn settings(setup: Setup, count_refused: bool, ends: Ends) -> String {
    let Ends {
        port,
        own_guest,
        other_host,
        other_guest,
    } = ends;
    let Setup {
        port: port_door,
        underlay: underlay_door,
        ..
    } = setup;
    format!(
        r#"[agent]
count_refused = {count_refused}

[underlay]
device = "{CABLE}"
door = "{underlay_door}"

[[network]]
name = "blue"
id = 7

[[port]]
name = "{port}"
network = "blue"
addresses = ["{own_guest}"]
door = "{port_door}"

[[link]]
name = "to-other"
remote = "{other_host}"
networks = ["blue"]
cookie = "5af3107a4000be1d"

[[rule]]
network = "blue"
destination = "{other_guest}"
link = "to-other"
"#
    )
}
