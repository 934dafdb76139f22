//! Making soft-RDMA devices, as `rdma link add NAME type rxe netdev INTERFACE` does.

use std::fs;

use anyhow::{Context, Result, bail};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use std::os::fd::AsRawFd;

// `<rdma/rdma_netlink.h>`
const RDMA_NL_NLDEV: u16 = 5;
const RDMA_NLDEV_CMD_NEWLINK: u16 = 3;
const RDMA_NLDEV_ATTR_DEV_NAME: u16 = 2;
const RDMA_NLDEV_ATTR_NDEV_NAME: u16 = 51;
const RDMA_NLDEV_ATTR_LINK_TYPE: u16 = 65;

// `<linux/netlink.h>`
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const HEADER: usize = 16;

/// `IFF_UP`, `<linux/if.h>`
const IFF_UP: u32 = 1;

/// Sets an interface up.
pub(crate) fn bring_up(interface: &str) -> Result<()> {
    let path = format!("/sys/class/net/{interface}/flags");
    let flags = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16)
        .with_context(|| format!("{path} has {flags:?}"))?;
    fs::write(&path, format!("{:#x}", flags | IFF_UP)).with_context(|| format!("writing {path}"))
}

/// Makes an RDMA device of software over an interface.
pub(crate) fn add_link(name: &str, interface: &str) -> Result<()> {
    let mut attributes = Vec::new();
    for (kind, value) in [
        (RDMA_NLDEV_ATTR_DEV_NAME, name),
        (RDMA_NLDEV_ATTR_LINK_TYPE, "rxe"),
        (RDMA_NLDEV_ATTR_NDEV_NAME, interface),
    ] {
        let length = 4 + value.len() as u16 + 1;
        attributes.extend_from_slice(&length.to_ne_bytes());
        attributes.extend_from_slice(&kind.to_ne_bytes());
        attributes.extend_from_slice(value.as_bytes());
        attributes.push(0);
        attributes.resize(attributes.len().next_multiple_of(4), 0);
    }
    let mut message = Vec::new();
    message.extend_from_slice(&((HEADER + attributes.len()) as u32).to_ne_bytes());
    message.extend_from_slice(&((RDMA_NL_NLDEV << 10) + RDMA_NLDEV_CMD_NEWLINK).to_ne_bytes());
    message.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    // Sequence and port.
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&attributes);
    match ask(&message).with_context(|| format!("making {name} over {interface}"))? {
        0 => Ok(()),
        error => bail!(
            "the kernel makes no {name} over {interface}: {}",
            std::io::Error::from_raw_os_error(-error)
        ),
    }
}

/// Sends a request and gives the kernel's answer, 0 or the negative of an error's number.
fn ask(message: &[u8]) -> Result<i32> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRDMA,
    )?;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), message, &kernel, MsgFlags::empty())?;
    let mut answer = [0; 1024];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let answer = &answer[..length];
    let kind = answer.get(4..6).map(|kind| [kind[0], kind[1]]);
    let error = answer
        .get(HEADER..HEADER + 4)
        .and_then(|error| error.try_into().ok());
    match (kind.map(u16::from_ne_bytes), error) {
        (Some(NLMSG_ERROR), Some(error)) => Ok(i32::from_ne_bytes(error)),
        _ => bail!("the answer is {answer:02x?}"),
    }
}
