//! The promise: who holds an operator's certificate asks and changes any host from anywhere, who holds
//! a reader's asks; nobody else is heard, and the host's own socket goes on whatever happens there.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::overlay::{self, Overlay, Place};
use e2e::{ask, signal};
use lab::{Host, Lab, Output, Process, in_lab, try_eventually};
use nix::sys::signal::Signal;
use vnet_agent::api::{RemoteStatus, Status};

const API: &str = "[agent]\napi = \"0.0.0.0:6083\"\n\n";

/// Somebody's desk: a host without an agent, on the network between the hosts.
struct Desk {
    host: Host,
    authority: PathBuf,
}

impl Desk {
    fn new(lab: &Lab, overlay: &Overlay) -> Result<Self> {
        let host = lab.host("desk")?;
        overlay.underlay.connect(&host, "eth0")?;
        let authority = overlay.authority.clone();
        Ok(Self { host, authority })
    }

    /// A certificate, in a file of this name.
    fn issue(&self, name: &str, role: &str, valid: &str) -> Result<String> {
        let path = self.host.directory().join(format!("{name}.pem"));
        drop(fs::remove_file(&path));
        let (out, ca) = (
            path.display().to_string(),
            self.authority.display().to_string(),
        );
        let words = [
            "ca", "issue", name, "--ca", &ca, "--role", role, "--valid", valid, "--out", &out,
        ];
        self.host.vnetctl(words)?;
        Ok(out)
    }

    fn ask(&self, place: &str, credentials: &str, words: &[&str]) -> Result<Output> {
        let whole = ["--at", place, "--credentials", credentials];
        let whole = whole.iter().chain(words);
        self.host.attempt_vnetctl(whole)
    }

    fn status(&self, place: &str, credentials: &str) -> Result<Status> {
        let said = self.ask(place, credentials, &["-o", "json", "status"])?;
        serde_json::from_str(&said.stdout).with_context(|| said.stderr.clone())
    }
}

/// Has a place listen for those who are elsewhere: its settings change while it runs.
fn listens(place: &Place, settings: &str) -> Result<()> {
    place.agent.write_settings(&format!("{API}{settings}"))?;
    signal::reload(&place.agent)?;
    ask::until(&place.host, "it listens", |status| {
        status
            .remote
            .as_ref()
            .is_some_and(|remote| remote.deaf.is_none())
    })?;
    Ok(())
}

fn remote(host: &Host) -> Result<RemoteStatus> {
    ask::status(host)?.remote.context("nobody is to be heard")
}

fn all_listen(overlay: &Overlay) -> Result<()> {
    let proxy = &overlay.proxy;
    listens(
        proxy,
        &overlay::proxy_settings(&proxy.host, &overlay.authority),
    )?;
    for place in &overlay.agents {
        listens(place, &overlay::agent_settings(&place.host))?;
    }
    Ok(())
}

#[test]
fn an_operator_changes_everything_from_his_desk_and_a_reader_nothing() {
    in_lab("elsewhere", |lab| {
        let overlay = Overlay::new(lab, 2)?;
        // The text that is applied below names the guests once they have shown their addresses.
        overlay.until_all_reach_all()?;
        let desk = Desk::new(lab, &overlay)?;
        let (alice, bob) = (
            desk.issue("alice", "operator", "90d")?,
            desk.issue("bob", "reader", "90d")?,
        );
        // Off, unless the settings say otherwise.
        let refused = desk.ask("10.0.0.1", &alice, &["status"])?;
        assert!(
            refused.stderr.contains("Connection refused"),
            "{}",
            refused.stderr
        );
        assert!(
            refused.stderr.contains("`api` under [agent]"),
            "{}",
            refused.stderr
        );
        all_listen(&overlay)?;

        for (place, name) in [("proxy@10.0.0.1", "proxy"), ("10.0.0.2:6083", "one")] {
            for who in [&alice, &bob] {
                assert_eq!(desk.status(place, who)?.name, name);
            }
        }
        let other = desk.ask("two@10.0.0.2", &alice, &["status"])?;
        assert!(
            other.stderr.contains("is one, and not two"),
            "{}",
            other.stderr
        );

        // Events come to the desk, while the whole overlay is changed from there.
        let heard = desk.host.directory().join("events");
        let words = ["--at", "10.0.0.1", "--credentials", &bob, "watch"];
        let mut watch = desk.host.command(lab::Binaries::find()?.vnetctl);
        watch.args(words);
        let mut watch = Process::start_logged(watch, &File::create(&heard)?)?;
        try_eventually("the desk listens", || {
            Ok((remote(&overlay.proxy.host)?.connections == 1).then_some(()))
        })?;
        let text = desk.host.directory().join("lan.vnet");
        fs::write(&text, overlay.with_a_short_cut()?)?;
        let text = text.display().to_string();
        let apply = ["topology", "apply", &text];
        let plan = ["topology", "apply", "--dry-run", &text];
        let planned = desk.ask("10.0.0.1", &bob, &plan)?;
        ensure!(planned.success(), "{}", planned.stderr);
        let refused = desk.ask("10.0.0.1", &bob, &apply)?;
        assert_eq!(refused.status, 1, "{}", refused.stdout);
        for word in ["bob", "reader", "--role operator"] {
            assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
        }
        // The proxy lets no users of one change the whole, and those are one's users too.
        let refused = desk.ask("10.0.0.2", &alice, &apply)?;
        assert!(refused.stderr.contains("may_change"), "{}", refused.stderr);
        let applied = desk.ask("10.0.0.1", &alice, &apply)?;
        ensure!(applied.success(), "{}", applied.stderr);
        overlay.until_whole()?;
        let links = ask::links(&overlay.agents[0].host)?;
        assert!(links.iter().any(|link| link.name == "to-two"), "{links:?}");
        try_eventually("the desk hears of it", || {
            Ok(fs::read_to_string(&heard)?
                .contains("topology")
                .then_some(()))
        })?;
        watch.kill();
        let log = overlay.proxy.agent.log()?;
        let by = |name: &str| {
            let mut lines = log.lines();
            lines.any(|line| line.contains(name) && line.contains("POST /v1/topology"))
        };
        assert!(by("\"alice\"") && by("\"bob\""), "{log}");
        let turned = remote(&overlay.proxy.host)?.turned_away;
        assert_eq!(turned["its role does not allow that"], 1, "{turned:?}");
        overlay.until_all_reach_all()
    });
}

#[test]
fn who_is_no_operator_is_not_heard_and_disturbs_nobody() {
    in_lab("not-heard", |lab| {
        let overlay = Overlay::new(lab, 1)?;
        let desk = Desk::new(lab, &overlay)?;
        all_listen(&overlay)?;
        let (proxy, one) = (&overlay.proxy.host, &overlay.agents[0].host);
        let alice = desk.issue("alice", "operator", "90d")?;

        // A host's certificate opens nothing here, and vnetctl does not even show it.
        let host = desk.issue("three", "agent", "90d")?;
        let refused = desk.ask("10.0.0.1", &host, &["status"])?;
        assert!(
            refused.stderr.contains("for the role agent"),
            "{}",
            refused.stderr
        );
        // An operator's opens no control channel.
        let settings = overlay::agent_settings(one);
        overlay::identity(&desk.host, &overlay.authority, "alice", "operator", "90d")?;
        let settings = settings.replace(
            &one.directory().display().to_string(),
            &desk.host.directory().display().to_string(),
        );
        let failed = desk.host.agent(&settings).map(drop);
        let said = format!("{:#}", failed.err().context("it starts")?);
        assert!(said.contains("for the role operator"), "{said}");
        // Over while it is used: not before long.
        let brief = desk.issue("brief", "operator", "2s")?;
        try_eventually("it is over", || {
            let refused = desk.ask("10.0.0.1", &brief, &["status"])?;
            Ok(refused.stderr.contains("is over").then_some(()))
        })?;

        // A flood of those who say nothing: the host answers on, and so it does after it.
        let flood = desk.host.inside(|| {
            let connected = (0..200).map(|_| TcpStream::connect("10.0.0.1:6083"));
            connected.collect::<Vec<_>>()
        })?;
        assert!(ask::status(proxy)?.healthy);
        try_eventually("the flood is counted", || {
            Ok(remote(proxy)?
                .turned_away
                .contains_key("too many at once")
                .then_some(()))
        })?;
        drop(flood);
        try_eventually("there is room again", || {
            Ok(desk.status("10.0.0.1", &alice).ok())
        })?;
        overlay.until_whole()?;
        overlay.until_all_reach_all()
    });
}

#[test]
fn place_and_certificate_change_while_the_agent_runs() {
    in_lab("elsewhere-moves", |lab| {
        let overlay = Overlay::new(lab, 1)?;
        let desk = Desk::new(lab, &overlay)?;
        let alice = desk.issue("alice", "operator", "90d")?;
        let place = &overlay.agents[0];
        let settings = overlay::agent_settings(&place.host);
        let taken = place
            .host
            .inside(|| std::net::TcpListener::bind("0.0.0.0:6083"))??;
        place.agent.write_settings(&format!("{API}{settings}"))?;
        signal::reload(&place.agent)?;
        let status = ask::until(&place.host, "the taken place is named", |status| {
            let mut problems = status.problems.iter();
            problems.any(|problem| problem.message.contains("Address already in use"))
        })?;
        let problem = status
            .problems
            .iter()
            .find(|problem| problem.subject == "api");
        let cure = problem.and_then(|problem| problem.cure.clone());
        assert!(cure.context("there is none")?.contains("ss -ltnp"));
        drop(taken);
        try_eventually("it is taken once it is free", || {
            Ok(desk.status("one@10.0.0.2", &alice).ok())
        })?;

        // A certificate that was over is replaced, and shown to whoever comes next.
        overlay::identity(&place.host, &overlay.authority, "one", "agent", "1s")?;
        std::thread::sleep(Duration::from_secs(1));
        try_eventually("the host's certificate is over", || {
            let refused = desk.ask("10.0.0.2", &alice, &["status"])?;
            Ok(refused
                .stderr
                .contains("10.0.0.2:6083 is over")
                .then_some(()))
        })?;
        overlay::identity(&place.host, &overlay.authority, "one", "agent", "90d")?;
        try_eventually("the new one is shown", || {
            Ok(desk.status("one@10.0.0.2", &alice).ok())
        })?;

        // Another place, and then none.
        let moved = API.replace("6083", "7000");
        place.agent.write_settings(&format!("{moved}{settings}"))?;
        signal::reload(&place.agent)?;
        try_eventually("it is heard at another port", || {
            Ok(desk.status("10.0.0.2:7000", &alice).ok())
        })?;
        let refused = desk.ask("10.0.0.2", &alice, &["status"])?;
        assert!(
            refused.stderr.contains("Connection refused"),
            "{}",
            refused.stderr
        );
        place.agent.write_settings(&settings)?;
        signal::send(&place.agent, Signal::SIGHUP)?;
        try_eventually("nobody is heard", || {
            Ok(ask::status(&place.host)?.remote.is_none().then_some(()))
        })?;
        let refused = desk.ask("10.0.0.2:7000", &alice, &["status"])?;
        assert!(
            refused.stderr.contains("Connection refused"),
            "{}",
            refused.stderr
        );
        Ok(())
    });
}

#[test]
fn who_is_revoked_is_put_out_everywhere() {
    in_lab("revoked", |lab| {
        let mut overlay = Overlay::new(lab, 1)?;
        let desk = Desk::new(lab, &overlay)?;
        let alice = desk.issue("alice", "operator", "90d")?;
        let bob = desk.issue("bob", "operator", "90d")?;
        let list = overlay.authority.join("revoked");
        let one = &mut overlay.agents[0];
        let copy = one.host.directory().join("revoked");
        fs::write(&copy, "")?;
        let named = format!("[agent]\nrevoked = \"{}\"", copy.display());
        let settings = format!("{API}{}", overlay::agent_settings(&one.host));
        one.agent
            .write_settings(&settings.replacen("[agent]", &named, 1))?;
        one.agent.restart()?;
        let (proxy, one) = (&overlay.proxy, &overlay.agents[0].host);
        listens(
            proxy,
            &overlay::proxy_settings(&proxy.host, &overlay.authority),
        )?;
        overlay.until_whole()?;
        let revoke = |name: &str| {
            let ca = overlay.authority.display().to_string();
            desk.host.vnetctl(["ca", "revoke", name, "--ca", &ca])
        };
        let is_put_out = |place: &str, who: &str| -> Result<Option<()>> {
            let refused = desk.ask(place, who, &["status"])?;
            Ok(refused.stderr.contains("is revoked").then_some(()))
        };

        // What alice has open ends; bob's goes on.
        let mut watches = Vec::new();
        for who in [&alice, &bob] {
            let mut watch = desk.host.command(lab::Binaries::find()?.vnetctl);
            watch.args(["--at", "10.0.0.1", "--credentials", who, "watch"]);
            let heard = desk.host.directory().join("heard");
            watches.push(Process::start_logged(watch, &File::create(heard)?)?);
        }
        try_eventually("both listen", || {
            Ok((remote(&proxy.host)?.connections == 2).then_some(()))
        })?;
        revoke("alice")?;
        try_eventually("alice's stream ends", || watches[0].ended())?;
        assert_eq!(watches[1].ended()?, None);
        try_eventually("alice is put out", || is_put_out("10.0.0.1", &alice))?;
        assert_eq!(desk.status("10.0.0.1", &bob)?.name, "proxy");

        // Another host goes by the list once it has it.
        assert_eq!(desk.status("10.0.0.2", &alice)?.name, "one");
        fs::copy(&list, &copy)?;
        try_eventually("alice is put out there too", || {
            is_put_out("10.0.0.2", &alice)
        })?;
        assert_eq!(desk.status("10.0.0.2", &bob)?.name, "one");
        // A list that cannot be read lets nobody in again.
        fs::write(&copy, "alice is back")?;
        ask::until(one, "the mistake is named", |status| {
            let mut problems = status.problems.iter();
            problems.any(|problem| problem.subject == "revoked")
        })?;
        is_put_out("10.0.0.2", &alice)?.context("alice is let in")?;

        // A host that is revoked stays apart, until it has a certificate that was made later.
        revoke("one")?;
        try_eventually("one is put out", || {
            Ok((!overlay::is_together(one)?).then_some(()))
        })?;
        try_eventually("one is turned away", || {
            let turned = overlay::agents(&proxy.host)?.turned_away;
            let count = turned.get("a certificate that is revoked");
            Ok(count.filter(|&&count| count > 1).map(drop))
        })?;
        std::thread::sleep(Duration::from_secs(1));
        overlay::identity(one, &overlay.authority, "one", "agent", "90d")?;
        overlay.until_whole()?;
        let again = desk.issue("alice", "operator", "90d")?;
        assert_eq!(desk.status("10.0.0.1", &again)?.name, "proxy");
        Ok(())
    });
}
