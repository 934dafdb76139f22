//! Messages of the generic netlink families `nlctrl` and `ethtool` (`include/uapi/linux/genetlink.h`, `ethtool_netlink.h`).

use crate::facts::{Fec, PauseFrames};
use crate::probe::netlink::{self, Attribute, NetlinkError};

/// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`, `CTRL_ATTR_FAMILY_ID`, `CTRL_ATTR_FAMILY_NAME`.
const CTRL: u16 = 0x10;
const GETFAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// `NLMSG_ERROR`, `NLM_F_REQUEST`, `NLA_F_NESTED` of netlink.h.
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const NESTED: u16 = 0x8000;
/// Length of `struct genlmsghdr`.
const GENERIC: usize = 4;

/// `ETHTOOL_A_*_HEADER`, the same in all requests, and what is in it.
const HEADER: u16 = 1;
const HEADER_NAME: u16 = 2;
const HEADER_FLAGS: u16 = 3;
/// `ETHTOOL_FLAG_COMPACT_BITSETS` and `ETHTOOL_FLAG_STATS`.
const FLAGS: u32 = 1 | 1 << 2;

/// `ETHTOOL_A_LINKMODES_LANES`.
const LINKMODES_LANES: u16 = 9;
/// `ETHTOOL_A_FEC_ACTIVE`, `ETHTOOL_A_FEC_STATS`, `ETHTOOL_A_FEC_STAT_CORRECTED`, `ETHTOOL_A_FEC_STAT_UNCORR`.
const FEC_ACTIVE: u16 = 4;
const FEC_STATS: u16 = 5;
const FEC_CORRECTED: u16 = 2;
const FEC_UNCORRECTABLE: u16 = 3;
/// `ETHTOOL_A_PAUSE_STATS`, `ETHTOOL_A_PAUSE_STAT_TX_FRAMES`, `ETHTOOL_A_PAUSE_STAT_RX_FRAMES`.
const PAUSE_STATS: u16 = 5;
const PAUSE_SENT: u16 = 2;
const PAUSE_RECEIVED: u16 = 3;

/// What is asked for: the number of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Ask {
    /// `ETHTOOL_MSG_LINKMODES_GET`.
    LinkModes = 4,
    /// `ETHTOOL_MSG_PAUSE_GET`.
    Pause = 21,
    /// `ETHTOOL_MSG_FEC_GET`.
    Fec = 29,
}

/// An answer: its attributes, or the number of the error.
pub(super) type Answer<'a> = Result<&'a [u8], i32>;

/// Asks for the number of the family `ethtool`.
pub(super) fn family_request() -> Vec<u8> {
    message(CTRL, GETFAMILY, &attribute(FAMILY_NAME, b"ethtool\0"))
}

/// Asks a family something about an interface.
pub(super) fn request(family: u16, ask: Ask, interface: &str) -> Vec<u8> {
    let mut name = interface.as_bytes().to_vec();
    name.push(0);
    let mut header = attribute(HEADER_NAME, &name);
    header.extend(attribute(HEADER_FLAGS, &FLAGS.to_ne_bytes()));
    message(family, ask as u8, &attribute(HEADER | NESTED, &header))
}

fn message(kind: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let length = 16 + GENERIC + attributes.len();
    let mut message = Vec::with_capacity(length);
    // A request is far below 4 GiB.
    message.extend((length as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    // Sequence and port: one request is under way at a time.
    message.extend([0; 8]);
    // Version 1 of either family.
    message.extend([command, 1, 0, 0]);
    message.extend(attributes);
    message
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + value.len() + 3);
    // Names of interfaces have 16 bytes at most.
    bytes.extend((4 + value.len() as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The answer in a datagram.
pub(super) fn answer(datagram: &[u8]) -> Result<Answer<'_>, NetlinkError> {
    let messages = netlink::messages(datagram)?;
    let Some(message) = messages.into_iter().next() else {
        return Err(NetlinkError::Short {
            found: 0,
            expected: 16,
        });
    };
    let short = |expected| NetlinkError::Short {
        found: message.contents.len(),
        expected,
    };
    if message.kind == ERROR {
        let error = message.contents.first_chunk().ok_or_else(|| short(4))?;
        // The kernel's errors are negative.
        return Ok(Err(i32::from_ne_bytes(*error).saturating_neg()));
    }
    let attributes = message.contents.get(GENERIC..);
    attributes.map(Ok).ok_or_else(|| short(GENERIC))
}

/// The number of the family.
pub(super) fn family(attributes: &[u8]) -> Result<Option<u16>, NetlinkError> {
    let id = find(attributes, FAMILY_ID)?;
    id.map(|id| id.half()).transpose()
}

/// Lanes of the link; 0 is that it has none.
pub(super) fn lanes(attributes: &[u8]) -> Result<Option<u32>, NetlinkError> {
    let lanes = find(attributes, LINKMODES_LANES)?;
    let lanes = lanes.map(|lanes| lanes.number()).transpose()?;
    Ok(lanes.filter(|&lanes| lanes > 0))
}

pub(super) fn fec(attributes: &[u8]) -> Result<Fec, NetlinkError> {
    let active = find(attributes, FEC_ACTIVE)?;
    let active = active.map(|active| active.number()).transpose()?;
    let mut fec = Fec {
        active: active.map(|mode| fec_name(mode).to_owned()),
        ..Fec::default()
    };
    if let Some(stats) = find(attributes, FEC_STATS)? {
        for stat in stats.nested() {
            let stat = stat?;
            match stat.kind {
                // The first number is that of the whole port, and each that follows of a lane.
                FEC_CORRECTED => fec.corrected = Some(stat.first_count()?),
                FEC_UNCORRECTABLE => fec.uncorrectable = Some(stat.first_count()?),
                _ => {}
            }
        }
    }
    Ok(fec)
}

/// `ETHTOOL_LINK_MODE_FEC_*_BIT`, `enum ethtool_link_mode_bit_indices` of include/uapi/linux/ethtool.h.
const fn fec_name(mode: u32) -> &'static str {
    match mode {
        49 => "off",
        50 => "rs",
        51 => "baser",
        74 => "llrs",
        _ => "unknown",
    }
}

pub(super) fn pause(attributes: &[u8]) -> Result<Option<PauseFrames>, NetlinkError> {
    let Some(stats) = find(attributes, PAUSE_STATS)? else {
        return Ok(None);
    };
    let mut frames = PauseFrames::default();
    for stat in stats.nested() {
        let stat = stat?;
        match stat.kind {
            PAUSE_SENT => frames.sent = Some(stat.first_count()?),
            PAUSE_RECEIVED => frames.received = Some(stat.first_count()?),
            _ => {}
        }
    }
    Ok((frames != PauseFrames::default()).then_some(frames))
}

fn find(attributes: &[u8], kind: u16) -> Result<Option<Attribute<'_>>, NetlinkError> {
    for attribute in netlink::attributes(attributes) {
        let attribute = attribute?;
        if attribute.kind == kind {
            return Ok(Some(attribute));
        }
    }
    Ok(None)
}

/// Takes some bytes for each of these answers, for the fuzz target of that name.
#[cfg(fuzzing)]
pub fn fuzz_ethtool_answer(bytes: &[u8]) {
    if let Ok(Ok(attributes)) = answer(bytes) {
        let _ = (family(attributes), lanes(attributes));
        let _ = (fec(attributes), pause(attributes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answered(attributes: &[Vec<u8>]) -> Vec<u8> {
        message(30, 4, &attributes.concat())
    }

    fn counts(numbers: &[u64]) -> Vec<u8> {
        numbers
            .iter()
            .flat_map(|number| number.to_ne_bytes())
            .collect()
    }

    #[test]
    fn answers_say_what_a_port_does() {
        let stats = [
            attribute(FEC_CORRECTED, &counts(&[70, 30, 40])),
            attribute(FEC_UNCORRECTABLE, &counts(&[2])),
        ];
        let datagram = answered(&[
            attribute(LINKMODES_LANES, &4u32.to_ne_bytes()),
            attribute(FEC_STATS | NESTED, &stats.concat()),
        ]);
        let attributes = answer(&datagram).unwrap().unwrap();
        assert_eq!(lanes(attributes), Ok(Some(4)));
        let fec = fec(attributes).unwrap();
        assert_eq!((fec.corrected, fec.uncorrectable), (Some(70), Some(2)));
        assert_eq!(fec.active, None);

        let active = answered(&[attribute(FEC_ACTIVE, &50u32.to_ne_bytes())]);
        let active = super::fec(answer(&active).unwrap().unwrap()).unwrap();
        assert_eq!(active.active.as_deref(), Some("rs"));

        let stats = attribute(PAUSE_RECEIVED, &counts(&[9]));
        let datagram = answered(&[attribute(PAUSE_STATS | NESTED, &stats)]);
        let pause = pause(answer(&datagram).unwrap().unwrap()).unwrap();
        let expected = PauseFrames {
            received: Some(9),
            sent: None,
        };
        assert_eq!(pause, Some(expected));
    }

    #[test]
    fn an_error_is_told_by_its_number() {
        let mut datagram = Vec::new();
        datagram.extend(36u32.to_ne_bytes());
        datagram.extend(ERROR.to_ne_bytes());
        datagram.extend([0; 10]);
        datagram.extend((-95i32).to_ne_bytes());
        datagram.extend([0; 16]);
        assert_eq!(answer(&datagram), Ok(Err(95)));
    }

    #[test]
    fn lengths_that_lie_are_errors() {
        let short = [attribute(FEC_UNCORRECTABLE, &[1, 2, 3])];
        let datagram = answered(&[attribute(FEC_STATS | NESTED, &short.concat())]);
        let error = fec(answer(&datagram).unwrap().unwrap()).unwrap_err();
        assert!(error.to_string().contains("8 bytes"), "{error}");
        for cut in 0..20 {
            assert!(answer(&datagram[..cut]).is_err(), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(bytes: Vec<u8>) {
            let datagram = answered(std::slice::from_ref(&bytes));
            for datagram in [&bytes, &datagram] {
                if let Ok(Ok(attributes)) = answer(datagram) {
                    let _ = (family(attributes), lanes(attributes));
                    let _ = (fec(attributes), pause(attributes));
                }
            }
        }
    }
}
