//! The PCIe link: `current_link_speed`, `current_link_width` and their `max_` twins.

use super::ProbeError;
use super::directory::Directory;
use crate::facts::{Link, LinkRate};

/// Reads the link of a function or a port, as that one alone has it.
///
/// # Errors
/// When a file is missing or holds what no kernel writes.
pub fn read(function: &Directory) -> Result<Link, ProbeError> {
    let current = rate(function, "current_link_speed", "current_link_width")?;
    let max = most(function)?;
    Ok(Link { current, max })
}

/// What a function or a port could do; `None` when it does not know.
///
/// # Errors
/// As [`read`].
pub fn most(function: &Directory) -> Result<Option<LinkRate>, ProbeError> {
    rate(function, "max_link_speed", "max_link_width")
}

/// A function's link, bounded by what the port above could do, so that a fast card in a slow slot is not held against
/// the card.
#[must_use]
pub fn bounded(link: Link, port: Option<LinkRate>) -> Link {
    let max = match (link.max, port) {
        (Some(own), Some(port)) => Some(LinkRate {
            megatransfers: own.megatransfers.min(port.megatransfers),
            width: own.width.min(port.width),
        }),
        (own, _) => own,
    };
    Link { max, ..link }
}

fn rate(function: &Directory, speed: &str, width: &str) -> Result<Option<LinkRate>, ProbeError> {
    let contents = function.text(speed)?;
    let speed = parse_speed(&contents).ok_or_else(|| {
        function.malformed(speed, &contents, "a speed as 32.0 GT/s PCIe, or Unknown")
    })?;
    let contents = function.text(width)?;
    let width = parse_width(&contents).ok_or_else(|| {
        function.malformed(
            width,
            &contents,
            "a number of lanes up to 32, or 0, 63 or 255",
        )
    })?;
    Ok(speed.zip(width).map(|(megatransfers, width)| LinkRate {
        megatransfers,
        width,
    }))
}

/// Mega-transfers a second of `32.0 GT/s PCIe`; the inner `None` is `Unknown`. The outer `None` is
/// no speed at all.
#[must_use]
pub fn parse_speed(contents: &str) -> Option<Option<u32>> {
    if contents.starts_with("Unknown") {
        return Some(None);
    }
    let (number, unit) = contents.split_once(' ')?;
    if !unit.starts_with("GT/s") {
        return None;
    }
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    let [digit @ b'0'..=b'9'] = tenths.as_bytes() else {
        return None;
    };
    let whole: u32 = whole.parse().ok()?;
    let value = whole
        .checked_mul(1000)?
        .checked_add(u32::from(digit - b'0') * 100)?;
    Some((value > 0).then_some(value))
}

/// Lanes; the inner `None` is 0 or 255, which is a link that is down or not there, or 63, which is what a function that does
/// not answer reads as.
#[must_use]
pub fn parse_width(contents: &str) -> Option<Option<u32>> {
    match contents.parse().ok()? {
        0 | 63 | 255 => Some(None),
        lanes @ 1..=32 => Some(Some(lanes)),
        _ => None,
    }
}
