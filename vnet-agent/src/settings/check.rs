//! Is the settings file right, and what does it amount to?
//!
//! Input: the file's text. Output: what `vnet-agent check` prints, for people (`Display`) and for
//! programs (`Serialize`); cookies are in neither.

use std::fmt;

use serde::Serialize;

use super::{AgentSettings, ControlRole, ControlSettings, Settings, SettingsErrors};
use crate::model::Configuration;
use crate::model::configuration::{Limits, Underlay};

/// What became of checking a settings file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What the file is called.
    pub file: String,
    /// Whether the agent would run with it.
    pub ok: bool,
    /// What it amounts to, where it is right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// What is wrong with it, where it is not.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub errors: Option<SettingsErrors>,
    /// What should be looked at all the same.
    pub warnings: Vec<Warning>,
}

/// What a settings file amounts to, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// What concerns the agent itself.
    pub agent: AgentSettings,
    /// The overlay that it belongs to, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlSettings>,
    /// The network under the overlay.
    pub underlay: Underlay,
    /// How many virtual LANs there are.
    pub networks: usize,
    /// How many port entries.
    pub ports: usize,
    /// How many links.
    pub links: usize,
    /// How many rules the file has.
    pub rules: usize,
    /// How many more follow from the addresses of ports.
    pub implied_rules: usize,
    /// How large the kernel's tables are.
    pub limits: Limits,
}

/// Something that works and is unwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "warning")]
pub enum Warning {
    /// Everybody on the host can read the cookies of links.
    ReadableCookies {
        /// What the file is called.
        file: String,
        /// Its permission bits, in octal.
        mode: String,
    },
    /// Others than its owner can change what root runs by.
    Writable {
        /// What the file is called.
        file: String,
        /// Its permission bits, in octal.
        mode: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReadableCookies { file, mode } => write!(
                f,
                "{file} has link cookies and can be read by everybody (mode {mode}): chmod 600 {file}"
            ),
            Self::Writable { file, mode } => write!(
                f,
                "{file} can be written by others than its owner (mode {mode}): chmod 600 {file}"
            ),
        }
    }
}

const OTHERS_READ: u32 = 0o004;
const GROUP_OR_OTHERS_WRITE: u32 = 0o022;

impl Settings {
    /// What should be looked at, given the permission bits of the file (0 where there is none).
    pub fn warnings(&self, file: &str, mode: u32) -> Vec<Warning> {
        let file = || file.to_owned();
        let octal = || format!("{:04o}", mode & 0o7777);
        let mut warnings = Vec::new();
        let has_cookies = self.configuration.links.iter().any(|link| !link.is_plain());
        if has_cookies && mode & OTHERS_READ != 0 {
            warnings.push(Warning::ReadableCookies {
                file: file(),
                mode: octal(),
            });
        }
        if mode & GROUP_OR_OTHERS_WRITE != 0 {
            warnings.push(Warning::Writable {
                file: file(),
                mode: octal(),
            });
        }
        warnings
    }
}

impl Report {
    /// Checks the text of a settings file that is called `file` and has these permission bits
    /// (0 where they are not known).
    pub fn new(text: &str, file: &str, mode: u32) -> Self {
        match Settings::parse(text, file) {
            Ok(settings) => Self {
                file: file.to_owned(),
                ok: true,
                warnings: settings.warnings(file, mode),
                summary: Some(Summary::new(settings)),
                errors: None,
            },
            Err(errors) => Self {
                file: file.to_owned(),
                ok: false,
                summary: None,
                errors: Some(errors),
                warnings: Vec::new(),
            },
        }
    }
}

impl Summary {
    fn new(settings: Settings) -> Self {
        let Settings {
            agent,
            control,
            configuration,
        } = settings;
        let implied_rules = configuration.effective_rules(&[]).len() - configuration.rules.len();
        let Configuration {
            underlay,
            networks,
            ports,
            links,
            rules,
            limits,
        } = configuration;
        Self {
            agent,
            control,
            underlay,
            networks: networks.len(),
            ports: ports.len(),
            links: links.len(),
            rules: rules.len(),
            implied_rules,
            limits,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(errors) = &self.errors {
            let count = errors.errors.len();
            let plural = if count == 1 { "" } else { "s" };
            write!(f, "{errors}\n\n{}: {count} error{plural}", self.file)?;
        }
        if let Some(summary) = &self.summary {
            write!(f, "{}: ok\n{summary}", self.file)?;
        }
        for warning in &self.warnings {
            write!(f, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            agent,
            underlay,
            limits,
            ..
        } = self;
        let group = match &agent.socket_group {
            Some(group) => format!("group {group}"),
            None => "root only".to_owned(),
        };
        writeln!(f, "  agent      {}", agent.name)?;
        writeln!(f, "  socket     {} ({group})", agent.socket.display())?;
        if let Some(address) = agent.metrics {
            writeln!(f, "  metrics    {address}, for whoever can reach it")?;
        }
        if let Some(address) = agent.api {
            writeln!(f, "  api        {address}, for operators and readers")?;
        }
        writeln!(f, "  pins       {}", agent.pin_directory.display())?;
        writeln!(f, "  state      {}", agent.state_directory.display())?;
        writeln!(f, "  slow path  {}", agent.slow_path_device)?;
        if let Some(ControlSettings { identity, role }) = &self.control {
            match role {
                ControlRole::Agent { proxy } => {
                    writeln!(f, "  overlay    agent, proxy at {proxy}")?
                }
                ControlRole::Proxy {
                    listen, authority, ..
                } => {
                    let authority = match authority {
                        Some(directory) => format!(", authority in {}", directory.display()),
                        None => String::new(),
                    };
                    writeln!(f, "  overlay    proxy, listens on {listen}{authority}")?;
                }
            }
            writeln!(f, "  identity   {}", identity.display())?;
        }
        if let Some(identity) = &agent.identity {
            writeln!(f, "  identity   {}", identity.display())?;
        }
        if let Some(revoked) = &agent.revoked {
            writeln!(f, "  revoked    {}", revoked.display())?;
        }
        writeln!(f, "  underlay   {underlay}")?;
        writeln!(f, "  networks   {}", self.networks)?;
        writeln!(f, "  ports      {}", self.ports)?;
        writeln!(f, "  links      {}", self.links)?;
        let implied = self.implied_rules;
        writeln!(
            f,
            "  rules      {}, and {implied} from the addresses of ports",
            self.rules
        )?;
        write!(f, "  limits     {limits}")
    }
}
