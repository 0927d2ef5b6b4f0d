//! What does a test vector say? A TOML file of `vectors/`, read as it stands; `vectors/README.md`
//! explains the words.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// One vector: tables, and the frames that meet them one after the other.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// The file's name without its ending: a sentence.
    #[serde(skip)]
    pub name: String,
    /// Why there is this vector.
    pub why: String,
    /// The rules of `blue`, oldest first.
    #[serde(default)]
    pub rules: Vec<String>,
    /// The underlay of `host_one`.
    #[serde(default)]
    pub underlay: Underlay,
    /// The agent of `host_one`.
    #[serde(default)]
    pub agent: Agent,
    /// Networks that are not as usual.
    #[serde(default)]
    pub network: BTreeMap<String, Network>,
    /// The ports there are.
    #[serde(default)]
    pub port: BTreeMap<String, Port>,
    /// The links there are.
    #[serde(default)]
    pub link: BTreeMap<String, Link>,
    /// The frames, in order.
    pub frame: Vec<Step>,
}

/// How the underlay is configured.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Underlay {
    /// Whether the device is in the table.
    pub is_known: bool,
    /// Geneve's UDP port.
    pub udp_port: u16,
}

impl Default for Underlay {
    fn default() -> Self {
        Self {
            is_known: true,
            udp_port: 6081,
        }
    }
}

/// How the agent is.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agent {
    /// Whether it has its tap.
    pub has_tap: bool,
}

impl Default for Agent {
    fn default() -> Self {
        Self { has_tap: true }
    }
}

/// How a network is configured. `blue` is there without being asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Whether it is in the table.
    pub is_known: bool,
    /// Its rules, oldest first (those of `blue` are at the top).
    pub rules: Vec<String>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            is_known: true,
            rules: Vec::new(),
        }
    }
}

/// How a port is configured.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Port {
    /// Its network.
    pub network: String,
    /// `any`, `learn`, or who may send there; the station of its name where nothing is said.
    pub addresses: Option<Addresses>,
    /// The largest frame, bytes.
    pub carries: u32,
    /// How many frames it may send to the slow path at once; any number where nothing is said.
    pub slow_path_frames: Option<u32>,
}

impl Default for Port {
    fn default() -> Self {
        Self {
            network: "blue".to_owned(),
            addresses: None,
            carries: 1514,
            slow_path_frames: None,
        }
    }
}

/// Which source addresses a port may use.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Addresses {
    /// `any` or `learn`.
    Word(String),
    /// These.
    List(Vec<String>),
}

/// How a link is configured.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Link {
    /// The networks that it is admitted for.
    pub networks: Vec<String>,
    /// The largest inner frame, bytes; what 1,500 bytes of underlay leave where nothing is said.
    pub carries: Option<u32>,
    /// Whether its next hop is known.
    pub is_resolved: bool,
    /// The link that its frames take.
    pub instead: Option<String>,
    /// The link that it is another way of.
    pub rung_of: Option<String>,
    /// Whether it can be sent on: not in the moment between its making and its end.
    pub is_up: bool,
    /// Whether every frame carries its send time.
    pub stamps: bool,
    /// Whether the agent carries it, over TCP.
    pub is_carried: bool,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            networks: vec!["blue".to_owned()],
            carries: None,
            is_resolved: true,
            instead: None,
            rung_of: None,
            is_up: true,
            stamps: false,
            is_carried: false,
        }
    }
}

/// One frame, and all that comes of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Rules that are added to `blue` before it: its generation rises.
    #[serde(default)]
    pub adds: Vec<String>,
    /// By which door: `port NAME`, `underlay` or `agent`.
    pub enters: String,
    /// Its layers.
    pub is: Vec<String>,
    /// Cut to each of these lengths in turn, `FROM..TO` without the last: as many frames.
    pub cut_to: Option<String>,
    /// How often the program is run over the frame, which stays as it left: 1 where nothing is
    /// said.
    pub runs: Option<u32>,
    /// `forwarded over LINK`, `carried over LINK`, `delivered to PORT`, `up to the agent`, `answered`, `passed`, or
    /// `dropped: REASON`.
    pub outcome: String,
    /// Its layers as it leaves; not for dropped ones.
    pub leaves: Option<Vec<String>>,
    /// Every counter that moves: whose, and how.
    #[serde(default)]
    pub counts: BTreeMap<String, String>,
}

impl Step {
    /// The lengths to cut it to; one `None` where it stays whole.
    ///
    /// # Errors
    ///
    /// They are not two numbers.
    pub fn lengths(&self) -> Result<Vec<Option<usize>>> {
        let Some(text) = &self.cut_to else {
            return Ok(vec![None]);
        };
        let (from, to) = text
            .split_once("..")
            .with_context(|| format!("cut_to = \"{text}\": not FROM..TO"))?;
        let range = from.parse()?..to.parse()?;
        ensure!(!range.is_empty(), "cut_to = \"{text}\" has no length");
        Ok(range.map(Some).collect())
    }
}

/// Where the vectors are.
fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// Every vector, in the order of their names.
///
/// # Errors
///
/// One cannot be read: with its name, and the line.
pub fn all() -> Result<Vec<Vector>> {
    let mut vectors = Vec::new();
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory()).context("reading the vectors")? {
        paths.push(entry?.path());
    }
    paths.sort();
    for path in paths {
        if path.extension().is_none_or(|ending| ending != "toml") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let mut vector: Vector =
            toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
        let name = path.file_stem().context("no name")?.to_string_lossy();
        vector.name = name.into_owned();
        vectors.push(vector);
    }
    ensure!(!vectors.is_empty(), "there are no vectors");
    Ok(vectors)
}
