//! Why may an agent not come in, or not say what it says of itself?

/// More agents than a proxy has places for links.
pub const AGENTS_MAX: usize = 4096;
/// More ports, or stations behind them, than an agent has places for.
pub(super) const STATIONS_MAX: usize = 16_384;

/// Why an agent may not come in, or say what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the messages say what each is, the fields are their parts"
)]
pub enum RollError {
    #[error("{0:?} is what the proxy itself is called: give the agent another name")]
    ProxysName(String),
    #[error(
        "an agent called {name:?} is connected from {from}: two cannot have one name. If that one \
         has just ended, this one is let in once its silence is noticed"
    )]
    NameTaken { name: String, from: String },
    #[error("its underlay address {address} is the one of {other}, which is connected")]
    AddressTaken {
        address: std::net::IpAddr,
        other: String,
    },
    #[error("its overlay packets go to UDP port {theirs}, and those of this overlay to {ours}")]
    OtherUdpPort { theirs: u16, ours: u16 },
    #[error("there are {AGENTS_MAX} agents already")]
    TooMany,
    #[error("it has more ports or stations than {STATIONS_MAX}")]
    TooManyStations,
    #[error("its underlay address {address} {why}")]
    BadAddress {
        address: std::net::IpAddr,
        why: crate::model::problem::BadUnderlayAddress,
    },
}

/// Why nothing is dealt any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the proxy's own tables go by revision {held}, and it knows of none after {known}: it has come \
     back with an older state. Give it back its state directory; or remove overlay.json from there \
     and start it again, which deals everything anew"
)]
pub struct OlderState {
    /// The revision that the proxy itself goes by.
    pub held: u64,
    /// The highest that it knows to have dealt.
    pub known: u64,
}
