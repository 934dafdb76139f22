//! VERSION: protocol version and capabilities.

use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Violation, fixed};

/// The only major version there is.
pub const VERSION_MAJOR: u16 = 0;
/// The newest minor version this library speaks.
pub const VERSION_MINOR: u16 = 1;

/// What one end can take, told to the other in VERSION. What an end leaves out has the specified default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Descriptors that the sender can receive in one message.
    pub max_msg_fds: u64,
    /// Bytes of data in one REGION_READ, REGION_WRITE, DMA_READ or DMA_WRITE that the sender can handle.
    pub max_data_xfer_size: u64,
    /// DMA ranges that can be mapped at a time.
    pub max_dma_maps: u64,
    /// Page sizes that DMA ranges may have, one bit each.
    pub pgsizes: u64,
    /// REGION_WRITE_MULTI is understood.
    pub write_multiple: bool,
}

impl Default for Capabilities {
    /// The specified defaults.
    fn default() -> Self {
        Self {
            max_msg_fds: 1,
            max_data_xfer_size: 1 << 20,
            max_dma_maps: 65_535,
            pgsizes: 4096,
            write_multiple: false,
        }
    }
}

/// The JSON around them.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Envelope {
    capabilities: Capabilities,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Numbers {
    major: u16,
    minor: u16,
}

/// Payload of VERSION and of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Major version; both ends must have the same.
    pub major: u16,
    /// Minor version; the reply's is at most that of the command.
    pub minor: u16,
    /// What the sender can take.
    pub capabilities: Capabilities,
}

impl Version {
    /// Our newest version.
    pub fn new(capabilities: Capabilities) -> Self {
        Self {
            major: VERSION_MAJOR,
            minor: VERSION_MINOR,
            capabilities,
        }
    }

    /// The payload.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Numbers {
            major: self.major,
            minor: self.minor,
        }
        .as_bytes()
        .to_vec();
        // Serialising plain numbers and a bool to memory has no way to fail.
        let json = serde_json::to_vec(&Envelope {
            capabilities: self.capabilities,
        })
        .unwrap_or_default();
        bytes.extend_from_slice(&json);
        bytes.push(0);
        bytes
    }

    /// Reads a payload. Capabilities may be absent, in whole or each; unknown ones are passed over.
    ///
    /// # Errors
    /// A [`Violation`] for JSON that is broken or not terminated, and for limits with which nothing could be
    /// transferred. The version itself is the caller's to judge.
    pub fn parse(payload: &[u8]) -> Result<Self, Violation> {
        let Numbers { major, minor } = fixed(payload)?;
        let json = payload.get(size_of::<Numbers>()..).unwrap_or_default();
        let capabilities = if json.is_empty() {
            Capabilities::default()
        } else {
            parse_json(json)?
        };
        Ok(Self {
            major,
            minor,
            capabilities,
        })
    }
}

fn parse_json(data: &[u8]) -> Result<Capabilities, Violation> {
    let wrong = |what: String| Violation::Capabilities(what);
    let Some((0, text)) = data.split_last() else {
        return Err(wrong("the text does not end with a NUL".into()));
    };
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Ok(Capabilities::default());
    }
    let Envelope { capabilities } =
        serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))?;
    if capabilities.max_data_xfer_size == 0 {
        return Err(wrong("max_data_xfer_size is 0, expected at least 1".into()));
    }
    if capabilities.pgsizes == 0 {
        return Err(wrong("pgsizes is 0, expected one bit a page size".into()));
    }
    Ok(capabilities)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(json: &str) -> Result<Capabilities, Violation> {
        Version::parse(&[&[0, 0, 1, 0], json.as_bytes()].concat())
            .map(|version| version.capabilities)
    }

    #[test]
    fn absent_capabilities_have_their_defaults() {
        for json in [
            "",
            "\0",
            "{}\0",
            "{\"capabilities\":{}}\0",
            "{\"capabilities\":{\"migration\":{\"pgsize\":4096}}}\0",
        ] {
            assert_eq!(parse(json), Ok(Capabilities::default()), "{json:?}");
        }
    }

    #[test]
    fn what_is_given_is_taken_and_what_is_unknown_ignored() {
        let json =
            r#"{"extra":[1],"capabilities":{"max_msg_fds":8,"twin_socket":{"supported":true}}}"#;
        let capabilities = parse(&format!("{json}\0")).unwrap();
        assert_eq!(
            capabilities,
            Capabilities {
                max_msg_fds: 8,
                ..Capabilities::default()
            }
        );
    }

    #[test]
    fn broken_json_and_useless_limits_are_refused() {
        for json in [
            "{}",
            "{\0",
            "[]x\0",
            "{\"capabilities\":{\"max_msg_fds\":-1}}\0",
            "{\"capabilities\":{\"max_msg_fds\":\"8\"}}\0",
            "{\"capabilities\":{\"max_data_xfer_size\":0}}\0",
            "{\"capabilities\":{\"pgsizes\":0}}\0",
        ] {
            assert!(
                matches!(parse(json), Err(Violation::Capabilities(_))),
                "{json:?}"
            );
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        let json = format!("{{\"x\":{}", "[".repeat(60_000));
        assert!(parse(&format!("{json}\0")).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_version_or_a_violation(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Version::parse(&bytes);
        }

        #[test]
        fn a_version_survives_the_wire(minor: u16, fds: u64, xfer in 1_u64.., maps: u64, pgsizes in 1_u64.., multi: bool) {
            let capabilities = Capabilities {
                max_msg_fds: fds, max_data_xfer_size: xfer, max_dma_maps: maps, pgsizes, write_multiple: multi,
            };
            let version = Version { major: 0, minor, capabilities };
            prop_assert_eq!(Version::parse(&version.to_bytes()), Ok(version));
        }
    }
}
