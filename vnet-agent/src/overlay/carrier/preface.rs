//! Which link is a connection for, and does the other end know its cookie?
//!
//! ```text
//! who opened it                                        who was asked
//! hello    magic, instance, nonce, proof        ->
//!                          <-  magic, instance, nonce, proof         welcome
//! finish   proof                                ->
//! ```
//!
//! A proof is a keyed hash (HMAC-SHA-256) with the cookie as key, over everything said so far: with
//! both nonces in it, it is worth nothing in another conversation. The first says which link is meant
//! without naming it. An instance is the run of an agent: [`super::life`] tells by it whether the other
//! end has started anew.

use ring::hmac;
use vnet_common::addr::Cookie;

/// What both ends begin with: name and version.
const MAGIC: [u8; 8] = *b"vnet/c01";
/// What a connection that is meant for a carrier begins with; TLS begins with 0x16.
pub const FIRST_BYTE: u8 = MAGIC[0];
const HELLO_PROOF_BYTES: usize = 16;
/// Bytes of a hello.
pub const HELLO_BYTES: usize = 8 + 16 + 16 + HELLO_PROOF_BYTES;
/// Bytes of a welcome.
pub const WELCOME_BYTES: usize = 8 + 16 + 16 + 32;
/// Bytes of a finish.
pub const FINISH_BYTES: usize = 32;

/// The run of an agent, by a number that no other has.
pub type Instance = [u8; 16];
/// A number that is used once.
pub type Nonce = [u8; 16];

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Unproved {
    /// It does not begin as ours do.
    #[error("it does not speak as an agent of this version does")]
    Magic,
    /// No link here has the cookie that it knows.
    #[error("it knows the cookie of no link here")]
    Cookie,
    /// This end called itself.
    #[error("it is this agent itself")]
    Oneself,
}

fn key(cookie: Cookie) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &cookie.0.to_be_bytes())
}

/// The proof over these parts; `label` keeps one step's from being another's.
fn proof(cookie: Cookie, label: &[u8], parts: &[&[u8]]) -> hmac::Tag {
    let key = key(cookie);
    let mut context = hmac::Context::with_key(&key);
    context.update(label);
    for part in parts {
        context.update(part);
    }
    context.sign()
}

/// Whether two proofs are the same, in a time that tells nothing of where they differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let difference = one
        .iter()
        .zip(other)
        .fold(0, |sum, (one, other)| sum | (one ^ other));
    one.len() == other.len() && std::hint::black_box(difference) == 0
}

fn filled<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut bytes = [0; N];
    let all = parts.iter().copied().flatten();
    for (place, byte) in bytes.iter_mut().zip(all) {
        *place = *byte;
    }
    bytes
}

/// Instance and nonce of a hello or a welcome, and what follows.
fn read(bytes: &[u8]) -> Result<(Instance, &[u8], &[u8]), Unproved> {
    let (magic, rest) = bytes.split_first_chunk().ok_or(Unproved::Magic)?;
    let (instance, rest) = rest.split_first_chunk().ok_or(Unproved::Magic)?;
    let (_, proof) = rest.split_first_chunk::<16>().ok_or(Unproved::Magic)?;
    if *magic != MAGIC {
        return Err(Unproved::Magic);
    }
    let said = bytes
        .get(..bytes.len() - proof.len())
        .ok_or(Unproved::Magic)?;
    Ok((*instance, said, proof))
}

/// The end that opens a connection.
#[derive(Debug)]
pub struct Opener {
    cookie: Cookie,
    own: Instance,
    hello: [u8; HELLO_BYTES],
}

impl Opener {
    /// Begins a conversation about the link with this cookie.
    pub fn new(cookie: Cookie, own: Instance, nonce: Nonce) -> Self {
        let said: [u8; HELLO_BYTES - HELLO_PROOF_BYTES] = filled(&[&MAGIC, &own, &nonce]);
        let tag = proof(cookie, b"hello", &[&said]);
        Self {
            cookie,
            own,
            hello: filled(&[&said, tag.as_ref()]),
        }
    }

    /// Whether a hello of an agent of this version can begin so.
    pub fn may_begin(bytes: &[u8]) -> bool {
        MAGIC.iter().zip(bytes).all(|(ours, theirs)| ours == theirs)
    }

    /// What is sent first.
    pub const fn hello(&self) -> &[u8; HELLO_BYTES] {
        &self.hello
    }

    /// What is sent after the welcome, and whose that was.
    ///
    /// # Errors
    ///
    /// The other end did not prove that it knows the cookie.
    pub fn finish(
        &self,
        welcome: &[u8; WELCOME_BYTES],
    ) -> Result<([u8; FINISH_BYTES], Instance), Unproved> {
        let (other, said, given) = read(welcome)?;
        if other == self.own {
            return Err(Unproved::Oneself);
        }
        let expected = proof(self.cookie, b"welcome", &[&self.hello, said]);
        if !is_same(expected.as_ref(), given) {
            return Err(Unproved::Cookie);
        }
        let tag = proof(self.cookie, b"finish", &[&self.hello, welcome]);
        Ok((filled(&[tag.as_ref()]), other))
    }
}

/// The end that was asked, once it knows which link is meant.
#[derive(Debug)]
pub struct Asked {
    cookie: Cookie,
    other: Instance,
    hello: [u8; HELLO_BYTES],
    welcome: [u8; WELCOME_BYTES],
}

impl Asked {
    /// Finds the link that a hello is about, among those that are offered; answers its place.
    ///
    /// # Errors
    ///
    /// It is about none.
    pub fn new(
        hello: [u8; HELLO_BYTES],
        cookies: impl IntoIterator<Item = Cookie>,
        own: Instance,
        nonce: Nonce,
    ) -> Result<(usize, Self), Unproved> {
        let (other, said, given) = read(&hello)?;
        if other == own {
            return Err(Unproved::Oneself);
        }
        let is_meant = |cookie: &Cookie| {
            let expected = proof(*cookie, b"hello", &[said]);
            let expected = expected.as_ref().get(..HELLO_PROOF_BYTES);
            expected.is_some_and(|expected| is_same(expected, given))
        };
        let mut cookies = cookies.into_iter().enumerate();
        let found = cookies.find(|(_, cookie)| is_meant(cookie));
        let (place, cookie) = found.ok_or(Unproved::Cookie)?;
        let said: [u8; WELCOME_BYTES - 32] = filled(&[&MAGIC, &own, &nonce]);
        let tag = proof(cookie, b"welcome", &[&hello, &said]);
        let asked = Self {
            cookie,
            other,
            hello,
            welcome: filled(&[&said, tag.as_ref()]),
        };
        Ok((place, asked))
    }

    /// What is sent back.
    pub const fn welcome(&self) -> &[u8; WELCOME_BYTES] {
        &self.welcome
    }

    /// Whose connection it is, now that the other end has proved all.
    ///
    /// # Errors
    ///
    /// It did not: the hello may have been somebody else's, heard before.
    pub fn finished(&self, finish: &[u8; FINISH_BYTES]) -> Result<Instance, Unproved> {
        let expected = proof(self.cookie, b"finish", &[&self.hello, &self.welcome]);
        if is_same(expected.as_ref(), finish) {
            Ok(self.other)
        } else {
            Err(Unproved::Cookie)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Instance = [1; 16];
    const TWO: Instance = [2; 16];
    const COOKIES: [Cookie; 3] = [Cookie(5), Cookie(6), Cookie(7)];

    fn asked(opener: &Opener, nonce: u8) -> Result<(usize, Asked), Unproved> {
        Asked::new(*opener.hello(), COOKIES, TWO, [nonce; 16])
    }

    #[test]
    fn two_that_know_the_cookie_find_each_other() {
        let opener = Opener::new(Cookie(6), ONE, [9; 16]);
        let (place, asked) = asked(&opener, 8).unwrap();
        assert_eq!(place, 1);
        let (finish, other) = opener.finish(asked.welcome()).unwrap();
        assert_eq!(other, TWO);
        assert_eq!(asked.finished(&finish), Ok(ONE));
    }

    #[test]
    fn who_does_not_know_it_gets_nowhere() {
        let stranger = Opener::new(Cookie(8), ONE, [9; 16]);
        assert_eq!(asked(&stranger, 8).unwrap_err(), Unproved::Cookie);
        let opener = Opener::new(Cookie(6), ONE, [9; 16]);
        // Somebody who answers for another.
        let (_, other) = Asked::new(
            *Opener::new(Cookie(8), ONE, [9; 16]).hello(),
            [Cookie(8)],
            TWO,
            [8; 16],
        )
        .unwrap();
        assert_eq!(
            opener.finish(other.welcome()).unwrap_err(),
            Unproved::Cookie
        );
        // Somebody who says again what was said before.
        let (_, first) = asked(&opener, 8).unwrap();
        let (finish, _) = opener.finish(first.welcome()).unwrap();
        let (_, second) = asked(&opener, 7).unwrap();
        assert_eq!(second.finished(&finish), Err(Unproved::Cookie));
        // Somebody who sends back what was sent.
        let mut echo = [0; WELCOME_BYTES];
        echo[..HELLO_BYTES].copy_from_slice(opener.hello());
        assert_eq!(opener.finish(&echo).unwrap_err(), Unproved::Oneself);
    }

    #[test]
    fn every_bit_counts() {
        let opener = Opener::new(Cookie(6), ONE, [9; 16]);
        for bit in 0..HELLO_BYTES * 8 {
            let mut hello = *opener.hello();
            hello[bit / 8] ^= 1 << (bit % 8);
            assert!(Asked::new(hello, COOKIES, TWO, [8; 16]).is_err(), "{bit}");
        }
        let (_, asked) = asked(&opener, 8).unwrap();
        for bit in 0..WELCOME_BYTES * 8 {
            let mut welcome = *asked.welcome();
            welcome[bit / 8] ^= 1 << (bit % 8);
            assert!(opener.finish(&welcome).is_err(), "{bit}");
        }
        let (finish, _) = opener.finish(asked.welcome()).unwrap();
        for bit in 0..FINISH_BYTES * 8 {
            let mut finish = finish;
            finish[bit / 8] ^= 1 << (bit % 8);
            assert!(asked.finished(&finish).is_err(), "{bit}");
        }
    }

    #[test]
    fn nobody_shows_the_cookie() {
        let cookie = Cookie(0x0123_4567_89ab_cdef);
        let opener = Opener::new(cookie, ONE, [9; 16]);
        let (_, asked) = Asked::new(*opener.hello(), [cookie], TWO, [8; 16]).unwrap();
        let (finish, _) = opener.finish(asked.welcome()).unwrap();
        let said = [opener.hello().as_slice(), asked.welcome(), &finish].concat();
        for part in cookie.0.to_be_bytes().windows(3) {
            assert!(!said.windows(3).any(|window| window == part));
        }
    }
}
