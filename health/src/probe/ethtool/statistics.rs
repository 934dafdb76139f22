//! A driver's name, version and own statistics: `ETHTOOL_GDRVINFO`, `ETHTOOL_GSSET_INFO`, `ETHTOOL_GSTRINGS` and
//! `ETHTOOL_GSTATS` of `include/uapi/linux/ethtool.h`.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use super::Failure;
use super::ioctl::Exchange;
use super::names;
use crate::facts::Ethtool;

const GDRVINFO: u32 = 0x03;
const GSTRINGS: u32 = 0x1B;
const GSTATS: u32 = 0x1D;
const GSSET_INFO: u32 = 0x37;
/// `ETH_SS_STATS`.
const STATS: u32 = 1;
/// `ETH_GSTRING_LEN`, and the length of each text in `struct ethtool_drvinfo`.
const STRING: usize = 32;
/// Length of `struct ethtool_drvinfo`; texts follow its first word.
const DRVINFO: usize = 196;
/// Statistics of a driver: mlx5 has some thousands with 64 channels.
const MOST: u32 = 1 << 14;

/// Where in a driver's statistics those are that are judged.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    interface: String,
    driver: String,
    count: u32,
    /// Places, each with its pattern.
    wanted: Vec<(usize, &'static str)>,
}

/// The driver, its version and its firmware's.
pub(super) fn driver(socket: BorrowedFd<'_>, interface: &str) -> Result<Ethtool, Failure> {
    let mut exchange = Exchange::new(&GDRVINFO.to_ne_bytes(), DRVINFO).map_err(Failure::Unheard)?;
    match exchange.run(socket, interface) {
        Ok(()) => Ok(drvinfo(exchange.bytes())),
        Err(Errno::EOPNOTSUPP) => Ok(Ethtool::default()),
        Err(errno) => Err(Failure::Refused(errno)),
    }
}

fn drvinfo(bytes: &[u8]) -> Ethtool {
    let texts = bytes.get(4..).unwrap_or_default();
    let mut texts = texts.chunks_exact(STRING).map(text);
    let mut next = || texts.next().unwrap_or_default();
    Ethtool {
        driver: next(),
        driver_version: next(),
        firmware: next(),
        ..Ethtool::default()
    }
}

/// A text in a field of its own, up to its first NUL. mlx5 has a name that ends in a space.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0);
    let text = &field[..end.unwrap_or(field.len())];
    String::from_utf8_lossy(text).trim().to_owned()
}

impl Statistics {
    /// Those that are judged, each pattern's summed up; none of a driver whose names are not known.
    pub(super) fn read(
        &mut self,
        socket: BorrowedFd<'_>,
        interface: &str,
        driver: &str,
    ) -> Result<BTreeMap<String, u64>, Failure> {
        let named = names::of(driver);
        if named.is_empty() {
            self.known = None;
            return Ok(BTreeMap::new());
        }
        let Some(count) = count(socket, interface)? else {
            return Ok(BTreeMap::new());
        };
        let same = |known: &Known| {
            known.interface == interface && known.driver == driver && known.count == count
        };
        let known = match self.known.take().filter(same) {
            Some(known) => known,
            None => Known {
                interface: interface.to_owned(),
                driver: driver.to_owned(),
                count,
                wanted: wanted(&strings(socket, interface, count)?, named),
            },
        };
        let known = self.known.insert(known);
        let mut request = GSTATS.to_ne_bytes().to_vec();
        request.extend(count.to_ne_bytes());
        let mut exchange =
            Exchange::new(&request, 8 + 8 * count as usize).map_err(Failure::Unheard)?;
        exchange.run(socket, interface).map_err(Failure::Refused)?;
        Ok(sums(exchange.bytes(), count, &known.wanted))
    }
}

/// How many statistics the driver has; `None` for one that has none.
fn count(socket: BorrowedFd<'_>, interface: &str) -> Result<Option<u32>, Failure> {
    let mut request = GSSET_INFO.to_ne_bytes().to_vec();
    request.extend([0; 4]);
    request.extend((1u64 << STATS).to_ne_bytes());
    let mut exchange = Exchange::new(&request, 24).map_err(Failure::Unheard)?;
    match exchange.run(socket, interface) {
        Ok(()) => {}
        Err(Errno::EOPNOTSUPP) => return Ok(None),
        Err(errno) => return Err(Failure::Refused(errno)),
    }
    // The kernel clears the bit of a set that the driver does not have.
    let mask = exchange.bytes().get(8..16).unwrap_or_default();
    let count = word(exchange.bytes(), 16).unwrap_or_default();
    match (mask.iter().any(|byte| *byte != 0), count) {
        (false, _) | (_, 0) => Ok(None),
        (true, count) if count <= MOST => Ok(Some(count)),
        (true, count) => Err(Failure::Nonsense(format!("{count} statistics"))),
    }
}

fn strings(socket: BorrowedFd<'_>, interface: &str, count: u32) -> Result<Vec<u8>, Failure> {
    let mut request = GSTRINGS.to_ne_bytes().to_vec();
    request.extend(STATS.to_ne_bytes());
    request.extend(count.to_ne_bytes());
    let mut exchange =
        Exchange::new(&request, 12 + STRING * count as usize).map_err(Failure::Unheard)?;
    exchange.run(socket, interface).map_err(Failure::Refused)?;
    let bytes = exchange.bytes();
    let said = word(bytes, 8).unwrap_or_default().min(count) as usize;
    let strings = bytes.get(12..12 + STRING * said);
    Ok(strings.unwrap_or_default().to_vec())
}

/// The places of the names that are judged.
fn wanted(strings: &[u8], named: &'static [names::Named]) -> Vec<(usize, &'static str)> {
    let names = strings.chunks_exact(STRING).map(text).enumerate();
    names
        .filter_map(|(place, name)| Some((place, names::find(named, &name)?.pattern)))
        .collect()
}

/// The numbers at these places, by pattern. Fewer than were asked for are those of a driver that has changed meanwhile.
fn sums(bytes: &[u8], count: u32, wanted: &[(usize, &'static str)]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    if word(bytes, 4) != Some(count) {
        return sums;
    }
    for (place, pattern) in wanted {
        let at = 8 + 8 * place;
        let number = bytes
            .get(at..at + 8)
            .and_then(|number| number.try_into().ok());
        if let Some(number) = number.map(u64::from_ne_bytes) {
            let sum = sums.entry((*pattern).to_owned()).or_insert(0u64);
            *sum = sum.saturating_add(number);
        }
    }
    sums
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(word))
}

/// Takes some bytes for each of these answers, for the fuzz target of that name.
#[cfg(fuzzing)]
pub fn fuzz_ethtool_statistics(bytes: &[u8]) {
    let _ = drvinfo(bytes);
    let wanted = wanted(bytes, names::of("mlx5_core"));
    let _ = sums(bytes, word(bytes, 4).unwrap_or_default(), &wanted);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(name: &str) -> Vec<u8> {
        let mut field = name.as_bytes().to_vec();
        field.resize(STRING, 0);
        field
    }

    #[test]
    fn names_have_places_and_the_numbers_there_are_summed_by_pattern() {
        let names = [
            "rx_packets",
            "rx_prio0_pause",
            "rx_prio3_pause ",
            "rx_crc_errors_phy",
        ];
        let strings: Vec<u8> = names.iter().flat_map(|name| field(name)).collect();
        let wanted = wanted(&strings, names::of("mlx5_core"));
        assert_eq!(wanted.len(), 3);
        let mut bytes = GSTATS.to_ne_bytes().to_vec();
        bytes.extend(4u32.to_ne_bytes());
        for number in [9u64, 5, 6, 7] {
            bytes.extend(number.to_ne_bytes());
        }
        let sums = sums(&bytes, 4, &wanted);
        let sums: Vec<_> = sums
            .iter()
            .map(|(name, sum)| (name.as_str(), *sum))
            .collect();
        assert_eq!(sums, [("rx_crc_errors_phy", 7), ("rx_prio#_pause", 11)]);
        assert!(super::sums(&bytes, 5, &wanted).is_empty());
    }

    #[test]
    fn a_driver_says_its_name_and_versions() {
        let mut bytes = GDRVINFO.to_ne_bytes().to_vec();
        for text in ["mlx5_core", "6.12.0", "22.41.1000 (MT_0000000436)"] {
            bytes.extend(field(text));
        }
        bytes.resize(DRVINFO, 0);
        let read = drvinfo(&bytes);
        assert_eq!(
            (read.driver.as_str(), read.driver_version.as_str()),
            ("mlx5_core", "6.12.0")
        );
        assert_eq!(read.firmware, "22.41.1000 (MT_0000000436)");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer(bytes: Vec<u8>, count: u32) {
            let _ = drvinfo(&bytes);
            let wanted = wanted(&bytes, names::of("mlx5_core"));
            let _ = sums(&bytes, count, &wanted);
        }
    }
}
