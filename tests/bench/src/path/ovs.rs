//! What does Open vSwitch give where its kernel module is not?
//!
//! Its datapath in user space, over packet sockets, as its manual sets up a tunnel there: one
//! bridge has the cable and the host's address, another one the guest's port and a VXLAN port. Its
//! database and its switch run as programs of ours, in the host, with all their files in the host's
//! directory; they end with the path.

use std::path::PathBuf;

use anyhow::Result;
use lab::{Host, Process};

use crate::bed::{ADDRESSES, Bed, CABLE};
use crate::packages::Unpacked;

/// Where the programs come from.
pub(super) const PACKAGE: &str = "openvswitch-switch";

/// A bridge with the cable in it, and the host's address.
const OUTSIDE: &str = "br-out";
/// A bridge with the guest's port in it.
const INSIDE: &str = "br-in";

pub(super) fn lay(bed: &Bed, package: &Unpacked) -> Result<[Switch; 2]> {
    let [one, two] = ADDRESSES;
    Ok([
        Switch::start(&bed.one, package, bed.port, [one, two])?,
        Switch::start(&bed.two, package, bed.port, [two, one])?,
    ])
}

/// The programs of one host.
pub(super) struct Switch {
    // The switch first: it would try to reach its database again.
    _switch: Process,
    _database: Process,
}

impl Switch {
    fn start(host: &Host, package: &Unpacked, port: &str, [own, other]: [&str; 2]) -> Result<Self> {
        let place = Place {
            directory: host.directory().join("ovs"),
            package,
        };
        std::fs::create_dir(&place.directory)?;
        let file = |name| place.file(name);
        let schema = package.file("/usr/share/openvswitch/vswitch.ovsschema");
        let make = ["create", &file("conf.db"), &schema.display().to_string()];
        host.run(place.words("/usr/bin/ovsdb-tool", &make))?;
        let database = [
            &file("conf.db"),
            &format!("--remote=p{}", place.socket()),
            &format!("--unixctl={}", file("database.ctl")),
        ];
        let database = place.words("/usr/sbin/ovsdb-server", &database.map(String::as_str));
        let database = host.start("ovsdb.log", database)?;
        lab::try_eventually("the database answers", || {
            let output = host.attempt(place.set(&["--timeout=1", "--no-wait", "init"]))?;
            Ok(output.success().then_some(()))
        })?;
        let switch = [
            &place.socket(),
            &format!("--unixctl={}", file("switch.ctl")),
        ];
        let program = "/usr/lib/openvswitch-switch/ovs-vswitchd";
        let switch = place.words(program, &switch.map(String::as_str));
        let switch = host.start("ovs.log", switch)?;
        host.run(place.set(&bridge(OUTSIDE, CABLE)))?;
        host.run(["ip", "address", "flush", "dev", CABLE])?;
        host.sysctl(&format!("net/ipv6/conf/{OUTSIDE}/disable_ipv6"), "1")?;
        let own = format!("{own}/24");
        host.run(["ip", "address", "add", &own, "dev", OUTSIDE])?;
        host.run(["ip", "link", "set", OUTSIDE, "up"])?;
        host.run(place.set(&bridge(INSIDE, port)))?;
        let remote = format!("options:remote_ip={other}");
        let tunnel = [
            "add-port",
            INSIDE,
            "vxlan0",
            "--",
            "set",
            "interface",
            "vxlan0",
        ];
        let options = ["type=vxlan", "options:key=7", &remote];
        host.run(place.set(&[tunnel.as_slice(), &options].concat()))?;
        Ok(Self {
            _switch: switch,
            _database: database,
        })
    }
}

fn bridge<'a>(name: &'a str, port: &'a str) -> Vec<&'a str> {
    let bridge = ["--timeout=20", "add-br", name, "--", "set", "bridge", name];
    let switching = ["datapath_type=netdev", "--", "add-port", name, port];
    [bridge.as_slice(), &switching].concat()
}

struct Place<'a> {
    directory: PathBuf,
    package: &'a Unpacked,
}

impl Place<'_> {
    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn socket(&self) -> String {
        format!("unix:{}", self.file("db.sock"))
    }

    /// The words that run a program with its files here and nowhere else.
    fn words(&self, program: &str, arguments: &[&str]) -> Vec<String> {
        let places = ["RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR"];
        let mut words = vec!["env".to_owned()];
        words.extend(places.map(|place| format!("OVS_{place}={}", self.directory.display())));
        words.extend(self.package.program(program));
        words.extend(arguments.iter().copied().map(str::to_owned));
        words
    }

    /// The words that change what the database says.
    fn set(&self, arguments: &[&str]) -> Vec<String> {
        let database = format!("--db={}", self.socket());
        let arguments = [&[database.as_str()], arguments].concat();
        self.words("/usr/bin/ovs-vsctl", &arguments)
    }
}
