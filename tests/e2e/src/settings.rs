//! What are agents told? Settings files, put together from the pieces that a test is about.

use std::fmt::Write;

use lab::Mac;

/// The network of most tests.
pub const BLUE: &str = "blue";
/// Its number on the wire.
pub const BLUE_ID: u32 = 7;
/// The cookie of every link of these tests.
pub const COOKIE: &str = "5af3107a4000be1d";

/// A settings file in the making.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    agent: String,
    limits: String,
    rest: String,
}

impl Settings {
    /// Overlay packets go by `eth0`, and there is the network [`BLUE`].
    #[must_use]
    pub fn new() -> Self {
        Self::on("device = \"eth0\"")
    }

    /// The same, with these lines under `[underlay]`.
    #[must_use]
    pub fn on(underlay: &str) -> Self {
        Self::default()
            .and(&format!("[underlay]\n{underlay}"))
            .network(BLUE, BLUE_ID)
    }

    /// With these lines, a table of their own. Where it is one that can name a door and does not,
    /// the door is XDP: what most tests are about.
    #[must_use]
    pub fn and(mut self, lines: &str) -> Self {
        self.rest.push_str(lines);
        let has_door = ["[underlay]", "[[port]]"]
            .iter()
            .any(|of| lines.starts_with(of));
        if has_door && !lines.contains("\ndoor = ") {
            self.rest.push_str("\ndoor = \"xdp\"");
        }
        self.rest.push_str("\n\n");
        self
    }

    /// With one more network.
    #[must_use]
    pub fn network(self, name: &str, id: u32) -> Self {
        self.and(&format!("[[network]]\nname = \"{name}\"\nid = {id}"))
    }

    /// With a port of [`BLUE`] that has one address.
    #[must_use]
    pub fn port(self, device: &str, address: Mac) -> Self {
        self.port_with(device, &format!("addresses = [\"{address}\"]"))
    }

    /// With a port of [`BLUE`] and these lines.
    #[must_use]
    pub fn port_with(self, device: &str, lines: &str) -> Self {
        self.and(&format!(
            "[[port]]\nname = \"{device}\"\nnetwork = \"{BLUE}\"\n{lines}"
        ))
    }

    /// With a link for [`BLUE`].
    #[must_use]
    pub fn link(self, name: &str, remote: &str) -> Self {
        self.link_with(name, remote, "")
    }

    /// With a link for [`BLUE`] and these lines.
    #[must_use]
    pub fn link_with(self, name: &str, remote: &str, lines: &str) -> Self {
        self.and(&format!(
            "[[link]]\nname = \"{name}\"\nremote = \"{remote}\"\nnetworks = [\"{BLUE}\"]\n\
             cookie = \"{COOKIE}\"\n{lines}"
        ))
    }

    /// With a rule of [`BLUE`]; the target as in the file: `link = "to-two"`, `flood = true`.
    #[must_use]
    pub fn rule(self, source: &str, destination: &str, target: &str) -> Self {
        self.and(&format!(
            "[[rule]]\nnetwork = \"{BLUE}\"\nsource = \"{source}\"\n\
             destination = \"{destination}\"\n{target}"
        ))
    }

    /// With a rule that sends what is for this guest over a link.
    #[must_use]
    pub fn way(self, to: Mac, link: &str) -> Self {
        self.rule("any", &to.to_string(), &format!("link = \"{link}\""))
    }

    /// With the default rule that copies to everybody.
    #[must_use]
    pub fn flood(self) -> Self {
        self.rule("any", "none", "flood = true")
    }

    /// With a line under `[agent]`.
    #[must_use]
    pub fn agent(mut self, line: &str) -> Self {
        self.agent.push_str(line);
        self.agent.push('\n');
        self
    }

    /// With a line under `[limits]`.
    #[must_use]
    pub fn limit(mut self, line: &str) -> Self {
        self.limits.push_str(line);
        self.limits.push('\n');
        self
    }

    /// The file. Where it does not say whether paths are probed and links watched, they are not: probes
    /// are in the books of links, and most tests compare these with what guests sent.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.rest.clone();
        let mut agent = self.agent.clone();
        for key in ["probe_mtu", "watch_links"] {
            if !agent.contains(key) {
                // Writing to a string cannot fail.
                let _ = writeln!(agent, "{key} = false");
            }
        }
        for (name, lines) in [("agent", &agent), ("limits", &self.limits)] {
            if !lines.is_empty() {
                // Writing to a string cannot fail.
                let _ = write!(text, "[{name}]\n{lines}\n");
            }
        }
        text
    }
}
