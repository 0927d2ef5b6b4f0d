//! What does a text say, statement by statement?
//!
//! As it is written: names are not looked up, defaults are not filled in.

use std::net::IpAddr;
use std::ops::Range;

use vnet_common::addr::{Mac, NetworkId};
use vnet_common::rule::{Destination, Source};

use crate::model::topology::{Flooding, LinkKind, Role};

/// A value and the bytes that say it.
#[derive(Clone, Debug)]
pub(super) struct Said<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

impl<T> Said<T> {
    /// A value that nobody has written yet.
    pub(super) const fn unwritten(value: T) -> Self {
        Self { value, span: 0..0 }
    }
}

impl Said<String> {
    pub(super) fn name(&self) -> &str {
        &self.value
    }
}

/// A whole text.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) statements: Vec<Said<Statement>>,
    /// The bytes from BEGIN to END.
    pub(super) span: Range<usize>,
}

/// One statement.
#[derive(Clone, Debug)]
pub(super) enum Statement {
    Network {
        name: Said<String>,
        id: Said<NetworkId>,
    },
    Host {
        user: Said<String>,
        name: Said<String>,
        port: Said<u16>,
        interface: Said<String>,
        address: Option<Said<IpAddr>>,
        role: Option<Said<Role>>,
    },
    Vm {
        name: Said<String>,
        mac: Said<Mac>,
        host: Said<String>,
        device: Option<Said<String>>,
        network: Option<Said<String>>,
        is_fixed: bool,
    },
    /// What becomes of the links and rules that follow.
    Action(Action),
    Link {
        kind: LinkKind,
        /// Two machines, or with who opens it before them three.
        machines: Vec<Said<String>>,
        /// None: all that there are.
        carries: Option<Vec<Said<String>>>,
        flood: Option<Flooding>,
    },
    Forward {
        host: Said<String>,
        source: Said<Source>,
        destination: Said<Destination>,
        to: Towards,
        network: Option<Said<String>>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Add,
    Delete,
}

/// Where a rule sends frames.
#[derive(Clone, Debug)]
pub(super) enum Towards {
    /// Over the edge between these two.
    Edge(Said<String>, Said<String>),
    Interface(Said<String>),
    Flood,
    Drop,
}
