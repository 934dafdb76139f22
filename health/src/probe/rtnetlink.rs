//! What the kernel says of interfaces in its group `RTMGRP_LINK` (rtnetlink(7)).
//!
//! Of the hundred attributes of a link six are taken, so a kernel that changes one of the others takes nothing from them.

use libc::{
    IFLA_CARRIER, IFLA_CARRIER_DOWN_COUNT, IFLA_CARRIER_UP_COUNT, IFLA_IFNAME,
    IFLA_PARENT_DEV_BUS_NAME, IFLA_PARENT_DEV_NAME, RTM_DELLINK, RTM_NEWLINK,
};

use super::discover::is_bdf;
use super::netlink::{self, NetlinkError};

/// Length of `struct ifinfomsg`, include/uapi/linux/rtnetlink.h.
const IFINFOMSG: usize = 16;
/// `IFF_UP`, include/uapi/linux/if.h.
const IFF_UP: u32 = 1;

/// What was said of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkMessage {
    /// Its index, which outlives its name.
    pub index: u32,
    /// Whether it left: deleted, or moved to another network namespace.
    pub gone: bool,
    /// Its name.
    pub name: Option<String>,
    /// Whether an administrator has set it up.
    pub admin_up: bool,
    /// Whether it has a carrier.
    pub carrier: Option<bool>,
    /// Times that the carrier came.
    pub carrier_up: Option<u32>,
    /// Times that the carrier went.
    pub carrier_down: Option<u32>,
    /// Address of the PCI function that it belongs to; a kernel before 5.14 does not say.
    pub function: Option<String>,
}

/// The messages on interfaces in a datagram; what else is in it is passed over.
///
/// # Errors
/// When a length lies: of a message, or of an attribute that is taken.
pub fn parse(datagram: &[u8]) -> Result<Vec<LinkMessage>, NetlinkError> {
    let messages = netlink::messages(datagram)?;
    let links = messages.into_iter().filter_map(|message| {
        let gone = match message.kind {
            RTM_NEWLINK => false,
            RTM_DELLINK => true,
            _ => return None,
        };
        link(message.contents, gone).transpose()
    });
    links.collect()
}

/// `None` when it is on something else than the interface itself: a bridge says in the same way that an interface left it.
fn link(contents: &[u8], gone: bool) -> Result<Option<LinkMessage>, NetlinkError> {
    let Some((header, attributes)) = contents.split_at_checked(IFINFOMSG) else {
        return Err(NetlinkError::Short {
            found: contents.len(),
            expected: IFINFOMSG,
        });
    };
    let word = |at: usize| {
        let bytes = header.get(at..at + 4).and_then(|word| word.try_into().ok());
        bytes.map(u32::from_ne_bytes).unwrap_or_default()
    };
    if i32::from(header[0]) != libc::AF_UNSPEC {
        return Ok(None);
    }
    let mut link = LinkMessage {
        index: word(4),
        gone,
        admin_up: word(8) & IFF_UP != 0,
        ..LinkMessage::default()
    };
    let (mut parent, mut bus) = (None, None);
    for attribute in netlink::attributes(attributes) {
        let attribute = attribute?;
        match attribute.kind {
            IFLA_IFNAME => link.name = Some(attribute.text()?),
            IFLA_CARRIER => link.carrier = Some(attribute.byte()? != 0),
            IFLA_CARRIER_UP_COUNT => link.carrier_up = Some(attribute.number()?),
            IFLA_CARRIER_DOWN_COUNT => link.carrier_down = Some(attribute.number()?),
            IFLA_PARENT_DEV_NAME => parent = Some(attribute.text()?),
            IFLA_PARENT_DEV_BUS_NAME => bus = Some(attribute.text()?),
            _ => {}
        }
    }
    link.function = parent.filter(|name| bus.as_deref() == Some("pci") && is_bdf(name));
    Ok(Some(link))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((4 + value.len() as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, family: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut contents = vec![family, 0, 1, 0];
        contents.extend(7u32.to_ne_bytes());
        contents.extend(0x1003u32.to_ne_bytes());
        contents.extend(0u32.to_ne_bytes());
        contents.extend(attributes.concat());
        let mut bytes = Vec::new();
        bytes.extend((16 + contents.len() as u32).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(contents);
        bytes
    }

    #[test]
    fn a_message_says_whose_carrier_is_how() {
        let attributes = [
            attribute(IFLA_IFNAME, b"eth0\0"),
            attribute(IFLA_CARRIER, &[1]),
            attribute(IFLA_CARRIER_UP_COUNT, &3u32.to_ne_bytes()),
            attribute(IFLA_CARRIER_DOWN_COUNT, &2u32.to_ne_bytes()),
            attribute(IFLA_PARENT_DEV_NAME, b"0000:41:00.0\0"),
            attribute(IFLA_PARENT_DEV_BUS_NAME, b"pci\0"),
            attribute(999, &[1, 2, 3]),
        ];
        let link = LinkMessage {
            index: 7,
            gone: false,
            name: Some("eth0".to_owned()),
            admin_up: true,
            carrier: Some(true),
            carrier_up: Some(3),
            carrier_down: Some(2),
            function: Some("0000:41:00.0".to_owned()),
        };
        let mut datagram = message(RTM_NEWLINK, 0, &attributes);
        datagram.extend(message(RTM_DELLINK, 0, &attributes));
        let gone = LinkMessage {
            gone: true,
            ..link.clone()
        };
        assert_eq!(parse(&datagram), Ok(vec![link, gone]));
    }

    #[test]
    fn that_an_interface_leaves_a_bridge_is_not_that_it_leaves() {
        const AF_BRIDGE: u8 = 7;
        let datagram = message(RTM_DELLINK, AF_BRIDGE, &[attribute(IFLA_IFNAME, b"eth0\0")]);
        assert_eq!(parse(&datagram), Ok(Vec::new()));
    }

    #[test]
    fn a_parent_on_another_bus_is_no_function() {
        let attributes = [
            attribute(IFLA_PARENT_DEV_NAME, b"virtio0\0"),
            attribute(IFLA_PARENT_DEV_BUS_NAME, b"virtio\0"),
        ];
        let links = parse(&message(RTM_NEWLINK, 0, &attributes)).unwrap();
        assert_eq!(links[0].function, None);
    }

    #[test]
    fn lengths_that_lie_are_errors() {
        let whole = message(RTM_NEWLINK, 0, &[attribute(IFLA_CARRIER, &[1])]);
        for cut in 1..whole.len() {
            let _ = parse(&whole[..cut]).unwrap_err();
        }
        for wrong in [vec![], vec![1, 2], vec![1, 2, 3, 4]] {
            let datagram = message(RTM_NEWLINK, 0, &[attribute(IFLA_CARRIER, &wrong)]);
            let error = parse(&datagram).unwrap_err();
            assert!(error.to_string().contains("1 byte"), "{error}");
        }
        let mut longer = whole;
        longer[0] = 255;
        assert!(parse(&longer).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_messages_or_an_error(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_attributes_are_a_message_or_an_error(bytes: Vec<u8>) {
            let _ = parse(&message(RTM_NEWLINK, 0, &[bytes]));
        }
    }
}
