//! What outlives the agent on disk?
//!
//! Input: the settings file, and the configuration whenever a client of the API changes it.
//! Output: the file's text with its fingerprint, and at the next start the changed configuration,
//! if it was made from that same text. All reading and writing of files of ours is here.

pub mod secret;
pub mod settings_file;
pub mod state;
pub mod value;

pub use settings_file::{Fingerprint, SettingsFile, SettingsFileError};
pub use state::{ChangeError, Loaded, StateStore, StoreError};
pub use value::Found;
