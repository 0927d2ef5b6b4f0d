//! What does the settings file say?
//!
//! Input: the text of the file (`store::settings_file` reads it). Output: the agent's own settings
//! and the configuration, validated; or everything that is wrong, each with line, column, the
//! offending line and a cure. Pure, save that the agent's default name is the host's.
//!
//! The text is read by hand from toml's tree of spanned values instead of by derived
//! deserialisers: those stop at the first wrong type or unknown key, and somebody who writes a
//! file wants to see all of it at once.

mod agent;
pub mod check;
pub mod control;
mod entry;
pub mod error;
mod read;
#[cfg(test)]
mod tests;

pub use agent::AgentSettings;
pub use check::{Report, Summary, Warning};
pub use control::{ControlRole, ControlSettings};
pub use error::{SettingsError, SettingsErrors};

use toml::de::DeTable;

use crate::model::problem::{ConfigurationError, Item, Noun, Place, Problem};
use crate::model::validate::takes;
use crate::model::{Configuration, port};
use error::{Finding, Text};
use read::Reader;

/// A settings file, read and validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What concerns the agent itself.
    pub agent: AgentSettings,
    /// The overlay that it belongs to, if it does.
    pub control: Option<ControlSettings>,
    /// What is wanted of this host.
    pub configuration: Configuration,
}

impl Settings {
    /// Reads the text of a settings file; `file_name` is what messages call it.
    ///
    /// # Errors
    /// All that is wrong with it: of the notation if that is broken, else of everything above it.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, SettingsErrors> {
        let (document, broken) = DeTable::parse_recoverable(text);
        let text = Text::new(text);
        if !broken.is_empty() {
            let findings = broken
                .iter()
                .map(|error| Finding::syntax(error, text.text().len()));
            return Err(SettingsErrors::new(file_name, &text, findings.collect()));
        }
        let mut reader = Reader::default();
        let settings = read_document(document.get_ref(), &mut reader);
        let problems = settings.configuration.problems();
        let problems = problems.into_iter().chain(settings.agent_problems());
        let is_dealt = |problem: &Problem| settings.is_dealt(problem);
        for problem in problems.collect::<Vec<_>>() {
            if !is_dealt(&problem) && !is_consequence(&reader, &problem) {
                reader.report_problem(&problem);
            }
        }
        let findings = reader.into_findings();
        if findings.is_empty() {
            Ok(settings)
        } else {
            Err(SettingsErrors::new(file_name, &text, findings))
        }
    }

    /// Whether a problem is none, because a proxy deals what is missing: the networks of ports.
    fn is_dealt(&self, problem: &Problem) -> bool {
        let is_network = matches!(
            problem.error,
            ConfigurationError::Unknown {
                noun: Noun::Network,
                ..
            }
        );
        let has_proxy = self.control.as_ref().is_some_and(ControlSettings::is_agent);
        has_proxy && is_network && matches!(problem.at.item, Item::Port(_))
    }

    /// Where the agent's own settings and the configuration are in each other's way.
    fn agent_problems(&self) -> Vec<Problem> {
        let device = &self.agent.slow_path_device;
        let at = Place::new(Item::Agent, "slow_path_device");
        let name = port::check_device_name(device).err().map(|why| Problem {
            at,
            earlier: None,
            error: ConfigurationError::BadDevice {
                name: device.clone(),
                why,
            },
        });
        let role = "agent's own slow path device";
        let ports = self.configuration.ports.iter().enumerate();
        let ports = ports.filter_map(|(place, port)| {
            let key = match port.device {
                port::DeviceMatch::Name(_) => "name",
                port::DeviceMatch::Pattern(_) => "pattern",
            };
            let error = takes(&port.device, device, role)?;
            Some(Problem {
                at: Place::new(Item::Port(place), key),
                earlier: Some(at),
                error,
            })
        });
        name.into_iter().chain(ports).collect()
    }
}

fn read_document(document: &DeTable<'_>, reader: &mut Reader) -> Settings {
    reader.refuse_unknown_sections(document);
    let agent = agent::read(document, reader);
    let control = control::read(document, reader);
    let underlay = entry::underlay(document, reader);
    let configuration = Configuration {
        underlay,
        networks: entry::networks(document, reader),
        ports: entry::ports(document, reader),
        links: entry::links(document, reader),
        rules: entry::rules(document, reader),
        limits: entry::limits(document, reader),
    };
    Settings {
        agent,
        control,
        configuration,
    }
}

/// Whether a problem only follows from something that has been reported already: where a value
/// could not be read, a filler stands for it that is not worth a message.
fn is_consequence(reader: &Reader, problem: &Problem) -> bool {
    if reader.is_bad(problem.at) || problem.earlier.is_some_and(|place| reader.is_bad(place)) {
        return true;
    }
    match &problem.error {
        ConfigurationError::Unknown { noun, .. } => reader.has_bad(|place| {
            matches!(
                (noun, place.item, place.key),
                (Noun::Network, Item::Network(_), "name" | "")
                    | (Noun::Link, Item::Link(_), "name" | "")
                    | (Noun::Port, Item::Port(_), "name" | "pattern" | "")
            )
        }),
        ConfigurationError::DuplicateRule { .. } => reader.has_bad(|place| {
            let of_the_key = matches!(place.key, "network" | "source" | "destination");
            let earlier = problem.earlier.map(|earlier| earlier.item);
            of_the_key && (place.item == problem.at.item || Some(place.item) == earlier)
        }),
        ConfigurationError::SharedRemote { .. } => {
            reader.is_bad(Place::new(problem.at.item, "remote"))
        }
        _ => false,
    }
}
