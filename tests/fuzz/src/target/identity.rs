//! What a host shows to prove who it is: the token of one that joins, the file of one that has.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use vnet_agent::identity::{Bundle, Certificate, CertificateFingerprint, IdentityError, Token};

use super::{ORDINARY, same, words_of};
use crate::engine::{Depth, Floor, Limits, Reached, Target};

/// A token: what is in it (its checksum is made right), or the line as it is.
pub(super) struct TokenLine;

const MARK: &str = "vnet-";

fn token() -> Token {
    Token {
        secret: [7; 16],
        authority: CertificateFingerprint([9; 32]),
        proxy: "proxy.example.org:6082".to_owned(),
        host: "host-one".to_owned(),
        expires_unix_s: 1_800_000_000,
    }
}

impl Target for TokenLine {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let line = token().to_text();
        let mut inside = URL_SAFE_NO_PAD.decode(&line[MARK.len()..]).unwrap();
        inside.truncate(inside.len() - 4);
        vec![line.into_bytes(), inside]
    }

    fn inputs(&self) -> u64 {
        4000
    }

    fn limits(&self) -> Limits {
        ORDINARY
    }

    fn floor(&self) -> Floor {
        Floor {
            inside_percent: 45,
            whole_percent: 11,
            trails: 9,
        }
    }

    fn try_one(&mut self, input: &[u8]) -> Result<Reached, String> {
        let line = match input.starts_with(MARK.as_bytes()) {
            true => String::from_utf8_lossy(input).into_owned(),
            false => {
                let sum = digest(&SHA256, input);
                let whole = [input, &sum.as_ref()[..4]].concat();
                format!("{MARK}{}", URL_SAFE_NO_PAD.encode(whole))
            }
        };
        match Token::parse(&line) {
            Ok(token) => {
                let written = token.to_text();
                same(
                    &written.as_str(),
                    &line.trim(),
                    "a token is not what it is written as",
                )?;
                if token.host.is_empty() || token.host.contains(char::is_control) {
                    return Err(format!("a host called {:?}", token.host));
                }
                let is_dotted = token.host.contains('.');
                Ok(Reached::new(Depth::Whole, if is_dotted { "." } else { "" }))
            }
            Err(error) => {
                let is_line = input.starts_with(MARK.as_bytes());
                let depth = match error {
                    IdentityError::NoToken | IdentityError::DamagedToken if is_line => {
                        Depth::Refused
                    }
                    _ => Depth::Inside,
                };
                Ok(Reached::new(depth, &error.to_string()))
            }
        }
    }
}

/// The file with certificate, authority and key.
pub(super) struct BundleFile;

const BUNDLE: &[u8] = include_bytes!("bundle.pem");

impl Target for BundleFile {
    fn seeds(&self) -> Vec<Vec<u8>> {
        vec![BUNDLE.to_vec()]
    }

    fn words(&self) -> Vec<Vec<u8>> {
        words_of(&[
            "-----BEGIN CERTIFICATE-----\n",
            "-----END CERTIFICATE-----\n",
            "-----BEGIN PRIVATE KEY-----\n",
            "-----END PRIVATE KEY-----\n",
            "MII",
            "====",
        ])
    }

    fn inputs(&self) -> u64 {
        1500
    }

    fn limits(&self) -> Limits {
        ORDINARY
    }

    fn floor(&self) -> Floor {
        Floor {
            inside_percent: 40,
            whole_percent: 5,
            trails: 50,
        }
    }

    fn try_one(&mut self, input: &[u8]) -> Result<Reached, String> {
        // The bytes of a certificate as another host shows them.
        let _ = Certificate::read(input);
        let Ok(text) = std::str::from_utf8(input) else {
            return Ok(Reached::new(Depth::Refused, "no UTF-8"));
        };
        match Bundle::parse(text) {
            Ok(bundle) => {
                let again = Bundle::parse(&bundle.to_text()).map_err(|error| error.to_string())?;
                same(
                    again.says(),
                    bundle.says(),
                    "a bundle is not what it is written as",
                )?;
                Ok(Reached::new(Depth::Whole, ""))
            }
            Err(error) => {
                let depth = match error {
                    IdentityError::Missing(_) => Depth::Refused,
                    _ => Depth::Inside,
                };
                Ok(Reached::new(depth, &error.to_string()))
            }
        }
    }
}
