//! What can be said on the command line?

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use vnet_agent::api::SOCKET_DEFAULT;

use crate::late::Late;
use crate::remote::Address;
use crate::screen::Format;
use crate::{agents, ca, completions, drops, flows, interface, join, link, rule, topology, trace};

/// Asks the vnet agent of this host, or of another, and changes its links and rules.
#[derive(Parser)]
#[command(
    name = "vnetctl",
    version,
    arg_required_else_help = true,
    after_help = "\
Exit status:
  0  done
  1  failed; standard error says why
  2  wrong usage
  3  the agent is degraded (status)

Examples:
  vnetctl status
  vnetctl -o json stats | jq '.ports[] | {name, dropped}'
  vnetctl trace --source 52:54:00:00:00:01 --destination 52:54:00:00:00:02"
)]
pub struct Arguments {
    /// The agent's socket.
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_name = "PATH",
        env = "VNET_SOCKET",
        default_value = SOCKET_DEFAULT
    )]
    pub socket: PathBuf,

    /// The agent of another host, over TLS, instead of the socket: [NAME@]HOST[:PORT]. With NAME it
    /// must be the host of that name in the overlay.
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_name = "ADDRESS",
        env = "VNET_AT"
    )]
    pub at: Option<Address>,

    /// Who asks the agent of another host: the file that `vnetctl ca issue --role operator` wrote.
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_name = "FILE",
        env = "VNET_CREDENTIALS"
    )]
    pub credentials: Option<PathBuf>,

    /// How answers are printed.
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Global options",
        value_enum,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub output: Format,

    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Subcommand)]
pub enum Verb {
    /// Whether all is well, on one screen; exit status 3 where it is not.
    Status,
    /// What became of every frame, by port, link and underlay device.
    Stats,
    /// Who talks to whom, the largest flows first.
    Flows(Late<flows::Arguments>),
    /// What was dropped, where and why.
    Drops(Late<drops::Arguments>),
    /// Which way a frame takes on this host, found by running the loaded program over it.
    Trace(Late<trace::Arguments>),
    /// What happens from now on, a line each, until interrupted.
    Watch,
    /// Devices that are ports, or could be.
    #[command(subcommand)]
    Interface(Late<interface::Verb>),
    /// Edges to other agents.
    #[command(subcommand)]
    Link(Late<link::Verb>),
    /// What each link's frames travel in now (udp, or tls where that does not pass), why, since when.
    Links,
    /// Which frames go where.
    #[command(subcommand)]
    Rule(Late<rule::Verb>),
    /// Who belongs to the overlay, and who was turned away; on the proxy.
    Agents(Late<agents::Arguments>),
    /// Bring this host into an overlay, with a token from its proxy.
    Join(Late<join::Arguments>),
    /// The overlay's certificate authority.
    #[command(subcommand)]
    Ca(Late<ca::Verb>),
    /// The whole overlay: as a text that is checked, compared, drawn, planned, and as it is.
    #[command(subcommand)]
    Topology(Late<topology::Verb>),
    /// Completions for a shell, to be sourced.
    Completions(Late<completions::Arguments>),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, ErrorKind> {
        let words = line
            .split('|')
            .flat_map(|part| match part.strip_prefix('\'') {
                Some(quoted) => vec![quoted],
                None => part.split_whitespace().collect(),
            });
        Arguments::try_parse_from(std::iter::once("vnetctl").chain(words))
            .map_err(|error| error.kind())
    }

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn socket_and_output_may_stand_anywhere() {
        for line in [
            "--socket /s -o json status",
            "status --socket /s --output json",
        ] {
            let Ok(Arguments {
                socket,
                output,
                verb: Verb::Status,
                at: None,
                credentials: None,
            }) = parse(line)
            else {
                panic!("{line}");
            };
            assert_eq!((socket, output), (PathBuf::from("/s"), Format::Json));
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (line, kind) in [
            ("", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("frobnicate", ErrorKind::InvalidSubcommand),
            ("-o yaml status", ErrorKind::InvalidValue),
            ("--at a/b status", ErrorKind::ValueValidation),
            ("status --at hub@", ErrorKind::ValueValidation),
            ("flows --sort size", ErrorKind::InvalidValue),
            ("flows --limit -1", ErrorKind::UnknownArgument),
            ("flows --limit 100001", ErrorKind::ValueValidation),
            (
                "link add to-two --remote 10.0.0.2 --network blue",
                ErrorKind::MissingRequiredArgument,
            ),
            (
                "link add x --remote 10.0.0.2 --network a --plain --cookie-file f",
                ErrorKind::ArgumentConflict,
            ),
            (
                "link add x --remote ten --network a --plain",
                ErrorKind::ValueValidation,
            ),
            (
                "link add x --remote 10.0.0.2 --network a --cookie 12",
                ErrorKind::ValueValidation,
            ),
            (
                "link add x --remote 10.0.0.2 --plain",
                ErrorKind::MissingRequiredArgument,
            ),
            ("link delete", ErrorKind::MissingRequiredArgument),
            (
                "rule add --network a --to any",
                ErrorKind::MissingRequiredArgument,
            ),
            (
                "rule add --network a --to any --drop --flood",
                ErrorKind::ArgumentConflict,
            ),
            (
                "rule add --network a --drop",
                ErrorKind::MissingRequiredArgument,
            ),
            (
                "rule add --network a --to 52:54 --drop",
                ErrorKind::ValueValidation,
            ),
            (
                "rule add --network a --from none --to any --drop",
                ErrorKind::ValueValidation,
            ),
            (
                "rule add --file f --network blue",
                ErrorKind::ArgumentConflict,
            ),
            ("rule add --file f --drop", ErrorKind::ArgumentConflict),
            ("rule delete -f f --to any", ErrorKind::ArgumentConflict),
            (
                "rule delete --network a --from any",
                ErrorKind::MissingRequiredArgument,
            ),
            ("trace", ErrorKind::MissingRequiredArgument),
            (
                "trace --source 52:54:00:00:00:01",
                ErrorKind::MissingRequiredArgument,
            ),
            (
                "trace --pcap f --source 52:54:00:00:00:01",
                ErrorKind::ArgumentConflict,
            ),
            ("trace --pcap f --bytes 60", ErrorKind::ArgumentConflict),
            ("trace --pcap f --from link:", ErrorKind::ValueValidation),
            ("agents forget", ErrorKind::MissingRequiredArgument),
            ("join", ErrorKind::MissingRequiredArgument),
            ("ca invite two --expires soon", ErrorKind::ValueValidation),
            ("ca issue", ErrorKind::MissingRequiredArgument),
            ("ca issue two --role king", ErrorKind::InvalidValue),
            ("ca issue two --valid 1y", ErrorKind::ValueValidation),
            ("topology check", ErrorKind::MissingRequiredArgument),
            ("topology diff one", ErrorKind::MissingRequiredArgument),
            ("topology draw f --as png", ErrorKind::InvalidValue),
            ("topology route vm1", ErrorKind::TooFewValues),
            ("topology plan ring --vm vm1", ErrorKind::ValueValidation),
            (
                "topology plan ring --vm vm1@a=52:54",
                ErrorKind::ValueValidation,
            ),
            ("completions cmd", ErrorKind::InvalidValue),
        ] {
            assert_eq!(parse(line).err(), Some(kind), "{line:?}");
        }
    }

    #[test]
    fn what_is_right_is_understood() {
        for line in [
            "status",
            "stats",
            "drops --all",
            "flows --network blue --limit 5 --sort packets",
            "trace --source 52:54:00:00:00:01 --destination ff:ff:ff:ff:ff:ff --from tap0",
            "trace --pcap - --from link:to-two --network blue --verbose",
            "interface list",
            "link list",
            "link delete to-two --force",
            "link add to-two --remote fd00::2 --network blue,green --plain --flood never",
            "link add to-two --remote 10.0.0.2 --network blue --network green --cookie-file -",
            "rule list --network blue",
            "rule add --network blue --to 52:54:00:00:00:02 --link to-two",
            "rule add --network blue --from|'not 52:54:00:00:00:01|--to none --flood",
            "rule delete --network blue --from any --to|'not 52:54:00:00:00:02",
            "rule add --file blue.rules",
            "rule delete -f -",
            "rule list --socket /s -o json",
            "agents",
            "agents forget two",
            "join vnet-AQ --identity /tmp/i.pem --config /tmp/a.toml",
            "ca invite two --expires 1h --address 10.0.0.9:6082",
            "ca init /etc/vnet/ca --valid 3650d",
            "ca issue two --ca /etc/vnet/ca --role agent --valid 12h --out two.pem",
            "ca issue alice --role operator",
            "ca issue bob --role reader",
            "ca revoke alice --ca /etc/vnet/ca",
            "--at hub@10.0.0.1:6083 --credentials alice.pem status",
            "topology apply f --at hub.example.org --credentials alice.pem",
            "topology check lan.vnet -o json",
            "topology format - --canonical",
            "topology draw lan.vnet --as dot",
            "topology route lan.vnet vm1 broadcast --network blue",
            "topology route vm1 vm3 --bytes 1500 --ethertype 0x800",
            "topology plan|'ring of a, b, c|--vm vm1@a,vm2@b=52:54:00:00:00:07 --on f",
            "topology part lan.vnet one",
            "completions bash",
        ] {
            assert_eq!(parse(line).err(), None, "{line}");
        }
    }
}
