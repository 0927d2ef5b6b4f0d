//! How does a host join that has nothing yet? With a token: one line that an admin carries over.
//!
//! It says where the proxy is, by which authority it can be told from an impostor, and a secret
//! that the proxy takes once. The proxy keeps no token, only a hash of each secret: who reads its
//! files cannot join with what is in them.
//!
//! ```text
//! "vnet-" base64url( version 1 | expires 8 | secret 16 | fingerprint 32
//!                  | length 1, host | length 1, proxy | checksum 4 )
//! ```
//!
//! The checksum (the first bytes of the SHA-256 of the rest) tells a line that was cut when it was
//! copied from one that was refused.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::{CertificateFingerprint, IdentityError, Role, check_host, hex, random};

/// What a token says.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Known to the one who joins, and in a hash to the proxy.
    pub secret: [u8; 16],
    /// Who vouches for the proxy.
    pub authority: CertificateFingerprint,
    /// Where the proxy is: `10.0.0.1:6082`.
    pub proxy: String,
    /// What the new host will be called.
    pub host: String,
    /// When the token is over.
    pub expires_unix_s: u64,
}

const MARK: &str = "vnet-";
const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// Without the secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} at {})", self.host, self.proxy)
    }
}

impl Token {
    /// The line, secret.
    pub fn to_text(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(self.expires_unix_s.to_be_bytes());
        bytes.extend(self.secret);
        bytes.extend(self.authority.0);
        for text in [&self.host, &self.proxy] {
            // Both are checked to be shorter where tokens are made.
            let text = text.as_bytes();
            let text = text.get(..usize::from(u8::MAX)).unwrap_or(text);
            bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
            bytes.extend(text);
        }
        let sum = checksum(&bytes);
        bytes.extend(sum);
        format!("{MARK}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads the line.
    ///
    /// # Errors
    ///
    /// It is no token, or not all of one.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let damaged = IdentityError::DamagedToken;
        let digits = text
            .trim()
            .strip_prefix(MARK)
            .ok_or(IdentityError::NoToken)?;
        let bytes = URL_SAFE_NO_PAD
            .decode(digits)
            .map_err(|_| damaged.clone())?;
        let Some((rest, sum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Err(damaged);
        };
        if checksum(rest) != *sum {
            return Err(damaged);
        }
        match read(rest) {
            Some(token) => {
                check_host(&token.host)?;
                Ok(token)
            }
            None => Err(IdentityError::NoToken),
        }
    }
}

fn read(bytes: &[u8]) -> Option<Token> {
    let (&[version], bytes) = bytes.split_first_chunk::<1>()?;
    if version != VERSION {
        return None;
    }
    let (expires, bytes) = bytes.split_first_chunk::<8>()?;
    let (secret, bytes) = bytes.split_first_chunk::<16>()?;
    let (authority, bytes) = bytes.split_first_chunk::<32>()?;
    let (host, bytes) = read_text(bytes)?;
    let (proxy, bytes) = read_text(bytes)?;
    bytes.is_empty().then(|| Token {
        secret: *secret,
        authority: CertificateFingerprint(*authority),
        proxy,
        host,
        expires_unix_s: u64::from_be_bytes(*expires),
    })
}

fn read_text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (&length, bytes) = bytes.split_first()?;
    let (text, rest) = bytes.split_at_checked(usize::from(length))?;
    Some((String::from_utf8(text.to_vec()).ok()?, rest))
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    let hash = digest(&SHA256, bytes);
    for (byte, of_hash) in sum.iter_mut().zip(hash.as_ref()) {
        *byte = *of_hash;
    }
    sum
}

/// What the proxy keeps of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// What the new host will be called.
    pub host: String,
    /// What it will be.
    pub role: Role,
    /// The SHA-256 of the secret.
    pub secret_hash: String,
    /// When it is over.
    pub expires_unix_s: u64,
}

/// The invites that nobody has used yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Invites(Vec<Invite>);

/// More are not kept: an admin who makes that many has a program that went wrong.
pub const INVITES_MAX: usize = 1024;

/// Why an invite is not made, or not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// Used, or never made.
    #[error("the proxy does not know this token: it was used, or another came for the same host")]
    Unknown,
    /// Too late.
    #[error("the token has expired")]
    Expired,
    /// Too many.
    #[error("{INVITES_MAX} invites wait to be used already")]
    TooMany,
}

impl Invites {
    /// Keeps an invite for a host; one that it had before is forgotten, and so are those that are
    /// over. Returns the secret, which is nowhere else.
    ///
    /// # Errors
    ///
    /// There are too many, or the system gives no randomness.
    pub fn add(
        &mut self,
        host: &str,
        role: Role,
        expires_unix_s: u64,
        now_unix_s: u64,
    ) -> Result<[u8; 16], InviteRefusal> {
        check_host(host)?;
        self.0
            .retain(|invite| invite.host != host && invite.expires_unix_s > now_unix_s);
        if self.0.len() >= INVITES_MAX {
            return Err(InviteError::TooMany.into());
        }
        let secret = random::<16>()?;
        self.0.push(Invite {
            host: host.to_owned(),
            role,
            secret_hash: secret_hash(&secret),
            expires_unix_s,
        });
        Ok(secret)
    }

    /// Takes the invite that this secret is for; it is gone then.
    ///
    /// # Errors
    ///
    /// There is none, or it is over.
    pub fn redeem(&mut self, secret: &[u8], now_unix_s: u64) -> Result<Invite, InviteError> {
        let hash = secret_hash(secret);
        let place = self.0.iter().position(|invite| invite.secret_hash == hash);
        let invite = self.0.remove(place.ok_or(InviteError::Unknown)?);
        if invite.expires_unix_s <= now_unix_s {
            return Err(InviteError::Expired);
        }
        Ok(invite)
    }
}

/// Why no invite is made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InviteRefusal {
    /// For a reason of its own.
    #[error(transparent)]
    Invite(#[from] InviteError),
    /// Because of the name, or for want of randomness.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

fn secret_hash(secret: &[u8]) -> String {
    hex(digest(&SHA256, secret).as_ref())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> Token {
        Token {
            secret: [7; 16],
            authority: CertificateFingerprint([9; 32]),
            proxy: "10.0.0.1:6082".into(),
            host: "host-two".into(),
            expires_unix_s: 1_790_000_000,
        }
    }

    #[test]
    fn a_token_is_one_word_and_says_what_was_put_in() {
        let text = token().to_text();
        assert!(text.len() < 140 && text.starts_with("vnet-"), "{text}");
        assert_eq!(Token::parse(&format!(" {text}\n")), Ok(token()));
        assert!(!format!("{:?}", token()).contains('7'));
    }

    #[test]
    fn what_is_no_token_is_told_from_what_is_damaged() {
        let text = token().to_text();
        assert_eq!(Token::parse("hello"), Err(IdentityError::NoToken));
        let cut = text.get(..text.len() - 4).unwrap();
        assert_eq!(Token::parse(cut), Err(IdentityError::DamagedToken));
        assert_eq!(Token::parse("vnet-"), Err(IdentityError::DamagedToken));
        assert_eq!(Token::parse("vnet-é"), Err(IdentityError::DamagedToken));
    }

    #[test]
    fn an_invite_is_taken_once_and_in_time() {
        let mut invites = Invites::default();
        let first = invites.add("two", Role::Agent, 200, 100).unwrap();
        let second = invites.add("two", Role::Agent, 200, 100).unwrap();
        let late = invites.add("three", Role::Agent, 150, 100).unwrap();
        assert!(
            !serde_json::to_string(&invites)
                .unwrap()
                .contains(&hex(&second))
        );
        assert_eq!(invites.redeem(&first, 110), Err(InviteError::Unknown));
        assert_eq!(invites.redeem(&second, 110).unwrap().host, "two");
        assert_eq!(invites.redeem(&second, 110), Err(InviteError::Unknown));
        assert_eq!(invites.redeem(&late, 150), Err(InviteError::Expired));
        assert_eq!(invites, Invites::default());
    }

    #[test]
    fn there_is_room_for_so_many_invites_and_no_more() {
        let mut invites = Invites::default();
        for number in 0..INVITES_MAX {
            invites
                .add(&format!("h{number}"), Role::Agent, 200, 100)
                .unwrap();
        }
        let more = invites.add("one-more", Role::Agent, 200, 100);
        assert_eq!(more, Err(InviteRefusal::Invite(InviteError::TooMany)));
        // Those that are over make room.
        assert!(invites.add("one-more", Role::Agent, 400, 300).is_ok());
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in "\\PC{0,200}") {
            let _ = Token::parse(&line);
        }

        #[test]
        fn any_change_of_a_character_is_noticed(place in 5..100_usize, to in "[A-Za-z0-9_-]") {
            let text = token().to_text();
            let mut changed = text.clone();
            changed.replace_range(place..=place, &to);
            prop_assume!(changed != text);
            prop_assert!(Token::parse(&changed).is_err());
        }
    }
}
