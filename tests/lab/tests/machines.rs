//! Does a lab work on Debian's kernel, in a virtual machine?

use lab::{Luggage, Mac, Station, UnderlaySettings, in_lab, on_debians_kernel};

#[test]
fn hosts_and_guests_are_made_in_a_machine() {
    let tools = || Luggage::new().tool("ip")?.tool("ethtool");
    on_debians_kernel("hosts_and_guests_are_made_in_a_machine", tools, || {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        assert!(kernel.contains("-cloud-"), "this runs on {kernel}");
        in_lab("inside", |lab| {
            let (one, _two, _underlay) = lab.two_hosts(UnderlaySettings::default())?;
            one.run(["ping", "-c", "1", "-W", "5", "10.0.0.2"])?;
            let station = Station::new("veth1", Mac([0x52, 0x54, 0, 0, 0, 1]));
            one.namespace_guest(station)?
                .run(["ip", "link", "show", "eth0"])?;
            one.tap_guest("tap1", Mac([0x52, 0x54, 0, 0, 0, 2]))?
                .send(&[0; 60])
        });
        Ok(())
    });
}
