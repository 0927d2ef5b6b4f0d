//! What somebody says who has no certificate yet.

use std::time::Duration;

use vnet_agent::identity::{Authority, Invites, Role};
use vnet_agent::overlay::message::{Join, STRANGER_BYTES_MAX, VERSION};

use super::super::{ORDINARY, words_of};
use super::{conversations, line, listen};
use crate::engine::{Depth, Floor, Limits, Reached, Target};

/// What somebody says who has a token, or says so.
pub(in crate::target) struct Stranger {
    authority: Authority,
}

/// Stands for the secret that was dealt; and nothing for a request that is right.
const SECRET: [u8; 16] = [7; 16];
const REQUEST: &[u8] = include_bytes!("../request.der");
const NOW_UNIX_S: u64 = 1_800_000_000;
const LIFE: Duration = Duration::from_secs(3600);

impl Stranger {
    pub(in crate::target) fn new() -> Self {
        Self {
            authority: Authority::create("test", NOW_UNIX_S, LIFE).unwrap(),
        }
    }
}

impl Target for Stranger {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let join = |secret: [u8; 16]| Join {
            version: VERSION,
            secret: secret.to_vec(),
            request: REQUEST.to_vec(),
        };
        let short = Join {
            request: Vec::new(),
            ..join(SECRET)
        };
        conversations(&[
            vec![line(&short)],
            vec![line(&join(SECRET))],
            vec![line(&join([8; 16])), line(&short)],
        ])
    }

    fn words(&self) -> Vec<Vec<u8>> {
        words_of(&[
            "version", "secret", "request", "[]", "null", "1", "7", "!", "48,130",
        ])
    }

    fn is_text(&self) -> bool {
        true
    }

    fn inputs(&self) -> u64 {
        1500
    }

    fn limits(&self) -> Limits {
        ORDINARY
    }

    fn floor(&self) -> Floor {
        Floor {
            inside_percent: 15,
            whole_percent: 3,
            trails: 20,
        }
    }

    fn try_one(&mut self, input: &[u8]) -> Result<Reached, String> {
        let mut invites = Invites::default();
        let dealt = invites
            .add("one", Role::Agent, NOW_UNIX_S + 10, NOW_UNIX_S)
            .map_err(|error| error.to_string())?;
        let mut depth = Depth::Refused;
        let mut way = String::new();
        listen::<Join>(input, STRANGER_BYTES_MAX, |said| {
            let join = match said {
                Ok(join) => join,
                Err(why) => {
                    way.push_str(why.split(" at line").next().unwrap_or_default());
                    return Ok(false);
                }
            };
            depth = depth.max(Depth::Inside);
            let is_known = join.secret == SECRET;
            let secret = if is_known {
                dealt.to_vec()
            } else {
                join.secret
            };
            match invites.redeem(&secret, NOW_UNIX_S) {
                Ok(_) if !is_known => return Err("somebody without a token is let in".to_owned()),
                Ok(invite) => {
                    let request = match join.request.as_slice() {
                        [] => REQUEST,
                        request => request,
                    };
                    let signed =
                        self.authority
                            .sign(request, &invite.host, invite.role, NOW_UNIX_S, LIFE);
                    match signed {
                        Ok(_) => depth = Depth::Whole,
                        Err(error) => way.push_str(&error.to_string()),
                    }
                }
                Err(error) => way.push_str(&error.to_string()),
            }
            Ok(true)
        })?;
        Ok(Reached::new(depth, &way))
    }
}
