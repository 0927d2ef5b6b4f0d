//! How is this data plane set up to be measured?
//!
//! As the manual says: an agent on each host with a settings file, one network, one port, one link
//! with a cookie. Flows and everything else are counted as always; only what the kernel refuses
//! after a redirect may go uncounted, to see what that count costs.

use anyhow::Result;
use lab::{Agent, Mac};

use crate::bed::{ADDRESSES, Bed, CABLE};
use crate::frame::{GUEST_ONE, GUEST_TWO};

pub(super) fn lay(bed: &Bed, count_refused: [bool; 2]) -> Result<[Agent; 2]> {
    let [one, two] = ADDRESSES;
    let [counts_one, counts_two] = count_refused;
    Ok([
        bed.one
            .agent(&settings(bed.port, counts_one, GUEST_ONE, two, GUEST_TWO))?,
        bed.two
            .agent(&settings(bed.port, counts_two, GUEST_TWO, one, GUEST_ONE))?,
    ])
}

fn settings(
    port: &str,
    count_refused: bool,
    own_guest: Mac,
    other_host: &str,
    other_guest: Mac,
) -> String {
    format!(
        r#"[agent]
count_refused = {count_refused}

[underlay]
device = "{CABLE}"
door = "xdp"

[[network]]
name = "blue"
id = 7

[[port]]
name = "{port}"
network = "blue"
door = "xdp"
addresses = ["{own_guest}"]

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
