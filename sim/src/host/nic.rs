//! A network interface: its directory under `net/` of its function.
//!
//! Names and formats are those of `net/core/net-sysfs.c` and `Documentation/ABI/testing/sysfs-class-net`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::error::HostError;
use super::files::{Files, READ_ONLY, READ_WRITE};

/// Speed of the simulated ports in Mb/s.
const SPEED: u32 = 400_000;
/// Changes of the carrier that may be waiting: what is asked for beyond that is refused.
const MAX_PENDING: usize = 10_000;

const STATISTICS: [&str; 23] = [
    "collisions",
    "multicast",
    "rx_bytes",
    "rx_compressed",
    "rx_crc_errors",
    "rx_dropped",
    "rx_errors",
    "rx_fifo_errors",
    "rx_frame_errors",
    "rx_length_errors",
    "rx_missed_errors",
    "rx_nohandler",
    "rx_over_errors",
    "rx_packets",
    "tx_aborted_errors",
    "tx_bytes",
    "tx_carrier_errors",
    "tx_compressed",
    "tx_dropped",
    "tx_errors",
    "tx_fifo_errors",
    "tx_heartbeat_errors",
    "tx_packets",
];

/// An interface whose directory exists.
pub(crate) struct Nic {
    files: Files,
    directory: String,
    carrier: bool,
    ups: u64,
    downs: u64,
    /// Changes of the carrier to come, in the order of time.
    pending: VecDeque<(Instant, bool)>,
}

impl Nic {
    pub(crate) fn create(
        files: &Files,
        function: &str,
        interface: &str,
        index: usize,
    ) -> Result<Self, HostError> {
        let directory = format!("{function}/net/{interface}");
        files.directory(&format!("{directory}/statistics"))?;
        let ifindex = index + 2;
        let attributes = [
            ("address", format!("02:a1:00:00:00:{index:02x}\n")),
            ("addr_len", "6\n".to_owned()),
            ("broadcast", "ff:ff:ff:ff:ff:ff\n".to_owned()),
            ("dev_id", "0x0\n".to_owned()),
            ("ifindex", format!("{ifindex}\n")),
            ("iflink", format!("{ifindex}\n")),
            ("link_mode", "0\n".to_owned()),
            ("type", "1\n".to_owned()),
            (
                "uevent",
                format!("INTERFACE={interface}\nIFINDEX={ifindex}\n"),
            ),
        ];
        for (name, contents) in attributes {
            files.create(
                &format!("{directory}/{name}"),
                READ_ONLY,
                contents.as_bytes(),
            )?;
        }
        for (name, contents) in [
            ("flags", "0x1003\n"),
            ("mtu", "9000\n"),
            ("tx_queue_len", "1000\n"),
        ] {
            files.create(
                &format!("{directory}/{name}"),
                READ_WRITE,
                contents.as_bytes(),
            )?;
        }
        for name in STATISTICS {
            files.create(&format!("{directory}/statistics/{name}"), READ_ONLY, b"0\n")?;
        }
        let below_sys = directory
            .strip_prefix("sys/")
            .unwrap_or(&directory)
            .to_owned();
        files.link(
            &format!("sys/class/net/{interface}"),
            &format!("../../{below_sys}"),
        )?;
        files.link(&format!("{directory}/device"), "../..")?;
        let nic = Self {
            files: files.clone(),
            directory,
            carrier: true,
            ups: 1,
            downs: 0,
            pending: VecDeque::new(),
        };
        for (name, contents) in nic.link_attributes() {
            files.create(
                &format!("{}/{name}", nic.directory),
                READ_ONLY,
                contents.as_bytes(),
            )?;
        }
        Ok(nic)
    }

    /// What follows the carrier. Without one the kernel knows neither speed nor duplex.
    fn link_attributes(&self) -> [(&'static str, String); 7] {
        let (operstate, speed, duplex) = if self.carrier {
            ("up", SPEED.to_string(), "full")
        } else {
            ("down", "-1".to_owned(), "unknown")
        };
        [
            ("carrier_changes", format!("{}\n", self.ups + self.downs)),
            ("carrier_up_count", format!("{}\n", self.ups)),
            ("carrier_down_count", format!("{}\n", self.downs)),
            ("carrier", format!("{}\n", u8::from(self.carrier))),
            ("operstate", format!("{operstate}\n")),
            ("speed", format!("{speed}\n")),
            ("duplex", format!("{duplex}\n")),
        ]
    }

    /// Has the carrier go and come back `count` times, after all that is pending. `false` when that is more than can wait.
    pub(crate) fn flap(&mut self, count: u32, down: Duration) -> bool {
        if self.pending.len() + 2 * count as usize > MAX_PENDING {
            return false;
        }
        let mut at = self
            .pending
            .back()
            .map_or_else(Instant::now, |(last, _)| *last + down);
        for _ in 0..count {
            self.pending.push_back((at, false));
            self.pending.push_back((at + down, true));
            at += 2 * down;
        }
        true
    }

    /// When the carrier changes next.
    pub(crate) fn next_change(&self) -> Option<Instant> {
        self.pending.front().map(|(at, _)| *at)
    }

    /// Makes the changes that are due, each of them visible by its count.
    pub(crate) fn refresh(&mut self, now: Instant) -> Result<(), HostError> {
        while self.next_change().is_some_and(|at| at <= now) {
            let Some((_, carrier)) = self.pending.pop_front() else {
                break;
            };
            if carrier != self.carrier {
                self.carrier = carrier;
                *if carrier {
                    &mut self.ups
                } else {
                    &mut self.downs
                } += 1;
                for (name, contents) in self.link_attributes() {
                    let path = format!("{}/{name}", self.directory);
                    self.files.replace(&path, READ_ONLY, contents.as_bytes())?;
                }
            }
        }
        Ok(())
    }
}
