//! Which program belongs on which device, at which door?

use std::fmt;
use std::str::FromStr;

use super::door::Door;

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
    /// Where on the way of its frames.
    pub door: Door,
}

impl Attachment {
    /// The hold of this role's program on this device.
    pub const fn new(role: Role, ifindex: u32, door: Door) -> Self {
        Self {
            role,
            ifindex,
            door,
        }
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.role.word(), self.ifindex, self.door)
    }
}

impl FromStr for Attachment {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('-');
        let (Some(word), Some(number), Some(door), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(());
        };
        let role = Role::ALL
            .into_iter()
            .find(|role| role.word() == word)
            .ok_or(())?;
        Ok(Self {
            role,
            ifindex: number.parse().map_err(|_| ())?,
            door: Door::ALL
                .into_iter()
                .find(|known| known.word() == door)
                .ok_or(())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Attachment, Door, Role};

    #[test]
    fn the_name_of_a_pin_says_what_it_holds() {
        for role in Role::ALL {
            for door in Door::ALL {
                let attachment = Attachment::new(role, 17, door);
                assert_eq!(attachment.to_string().parse(), Ok(attachment));
            }
        }
        for other in [
            "redirect_error",
            "port-",
            "port-17",
            "port-17-tcx",
            "port-17-tc-new",
        ] {
            assert_eq!(other.parse::<Attachment>(), Err(()), "{other}");
        }
    }
}
