//! Which program belongs on which device?

use std::fmt;
use std::str::FromStr;

/// What a device is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A VM's.
    Port,
    /// Where packets of the overlay come in.
    Underlay,
    /// The agent's own tap.
    Agent,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Port, Self::Underlay, Self::Agent];

    const fn word(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Underlay => "underlay",
            Self::Agent => "agent",
        }
    }
}

/// A program's hold on a device; its text is the name of the pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attachment {
    /// What the device is for.
    pub role: Role,
    /// The device.
    pub ifindex: u32,
}

impl Attachment {
    /// The hold of this role's program on this device.
    pub const fn new(role: Role, ifindex: u32) -> Self {
        Self { role, ifindex }
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.role.word(), self.ifindex)
    }
}

impl FromStr for Attachment {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (word, number) = text.split_once('-').ok_or(())?;
        let role = Role::ALL
            .into_iter()
            .find(|role| role.word() == word)
            .ok_or(())?;
        Ok(Self {
            role,
            ifindex: number.parse().map_err(|_| ())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Attachment, Role};

    #[test]
    fn the_name_of_a_pin_says_what_it_holds() {
        for role in Role::ALL {
            let attachment = Attachment::new(role, 17);
            assert_eq!(attachment.to_string().parse(), Ok(attachment));
        }
        assert_eq!("redirect_error".parse::<Attachment>(), Err(()));
        assert_eq!("port-".parse::<Attachment>(), Err(()));
    }
}
