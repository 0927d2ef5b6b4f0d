//! The promise: a second agent on the same pins ends at once and names the first, which does not
//! notice; agents on other pins of the same host are none of its business until they want the
//! same devices.

use anyhow::Context;
use e2e::frame::{expect, guest, numbered};
use e2e::settings::Settings;
use e2e::stage::{PORT, Stage};
use e2e::stream::during;
use e2e::{ask, stranger};
use lab::in_lab;

#[test]
fn a_second_agent_on_the_same_pins_names_the_first() {
    in_lab("second", |lab| {
        let stage = Stage::pair(lab)?;
        let (one, two) = stage.two()?;
        let first = one.agent.id().context("it runs")?.to_string();
        let outcome = during(&one.guest, &two.guest, |stream| {
            stream.flow_on(1000)?;
            for settings in [
                one.agent.settings_file().to_path_buf(),
                // The same pins by another path.
                {
                    let text = std::fs::read_to_string(one.agent.settings_file())?;
                    let other = one.host.directory().join("second.toml");
                    std::fs::write(
                        &other,
                        text.replace("/sys/fs/bpf/vnet", "/sys/fs/bpf/../bpf/vnet"),
                    )?;
                    other
                },
            ] {
                let binaries = lab::Binaries::find()?;
                let words = [
                    binaries.agent.as_os_str(),
                    "run".as_ref(),
                    "--config".as_ref(),
                    settings.as_os_str(),
                ];
                let second = one.host.attempt(words)?;
                assert_eq!(second.status, 1);
                let message = second.stderr.lines().last().unwrap_or_default().to_owned();
                assert!(
                    message.contains("another agent runs on the same pins")
                        && message.contains(&format!("process {first} ("))
                        && message.contains("stop it first"),
                    "{message}"
                );
                stream.flow_on(1000)?;
            }
            Ok(())
        })?;
        outcome.must_be_perfect(3000)?;
        assert_eq!(ask::status(&one.host)?.pid.to_string(), first);
        Ok(())
    });
}

#[test]
fn an_agent_with_other_pins_and_the_same_devices_says_who_has_them() {
    in_lab("pins", |lab| {
        let stage = Stage::pair(lab)?;
        let (one, two) = stage.two()?;
        let other = Settings::new()
            .port(PORT, guest(1))
            .agent("pin_directory = \"/sys/fs/bpf/other\"")
            .agent("slow_path_device = \"other-slow\"")
            .agent(&format!(
                "socket = \"{}/other.sock\"",
                one.host.directory().display()
            ))
            .agent(&format!(
                "state_directory = \"{}/other\"",
                one.host.directory().display()
            ));
        let second = one.host.agent(&other.text())?;
        let log = second.log()?;
        for device in [PORT, "eth0"] {
            assert!(
                log.contains(&format!("{device} already has an XDP program")),
                "{log}"
            );
        }
        // It took no device, and so changes nothing.
        drop(second);
        assert!(stranger::has_program(&one.host, PORT)?);
        let frame = numbered(guest(1), guest(2), 1, 100);
        one.guest.send(&frame)?;
        expect(&two.guest, &[frame])
    });
}
