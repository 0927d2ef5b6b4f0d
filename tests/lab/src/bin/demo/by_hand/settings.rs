//! What are the two agents told?

/// The virtual LAN's id on the wire.
pub(crate) const NETWORK_ID: u32 = 7;
/// The port on either host.
pub(crate) const PORT: &str = "tap0";
/// A secret that both ends of the link know.
const COOKIE: &str = "5af3107a4000be1d";

/// The settings of one agent: its guest at home, the other guest and everybody else over a link.
pub(crate) fn of_agent(own_guest: &str, other_host: &str, other_guest: &str) -> String {
    format!(
        r#"[underlay]
device = "eth0"

[[network]]
name = "blue"
id = {NETWORK_ID}

[[port]]
name = "{PORT}"
network = "blue"
addresses = ["{own_guest}"]

[[link]]
name = "to-other"
remote = "{other_host}"
networks = ["blue"]
cookie = "{COOKIE}"

[[rule]]
network = "blue"
destination = "{other_guest}"
link = "to-other"

[[rule]]
network = "blue"
destination = "none"
flood = true
"#
    )
}
