//! The network interface of a NIC: its directory under `net/` of the function. It carries no packets.
//!
//! Names and formats are those of `net/core/net-sysfs.c` and `Documentation/ABI/testing/sysfs-class-net`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::attributes::Attribute;
use super::bdf::Bdf;
use super::error::HostError;
use super::files::{Files, READ_ONLY, READ_WRITE};

/// Speed of the simulated ports in Mb/s.
pub(crate) const SPEED: u32 = 400_000;
/// Changes of the carrier that may be waiting: what is asked for beyond that is refused.
const MAX_PENDING: usize = 10_000;

const STATISTICS: [&str; 24] = [
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
    "tx_window_errors",
];

/// An interface whose directory exists.
pub(crate) struct Interface {
    files: Files,
    /// Directory of the function.
    function: String,
    name: String,
    index: usize,
    carrier: bool,
    ups: u64,
    downs: u64,
    /// Mb/s that it negotiates.
    speed: u32,
    /// What it counted of the statistics that a fault makes grow, and what the files hold.
    counted: [(&'static str, u64, u64); 3],
    /// The texts that follow the carrier, as the files hold them.
    shown: [Attribute; 7],
    /// Changes of the carrier to come, in the order of time.
    pending: VecDeque<(Instant, bool)>,
}

impl Interface {
    /// Makes the interface of the NIC of an index in the directory of its function.
    pub(crate) fn create(
        files: &Files,
        function: &str,
        bdf: Bdf,
        index: usize,
    ) -> Result<Self, HostError> {
        let name = default_name(index);
        let directory = format!("{function}/net/{name}");
        files.directory(&format!("{directory}/statistics"))?;
        // A locally administered address (IEEE 802: bit 1 of the first byte), which is nobody's.
        let address = [0x02, 0xA1, 0, 0, 0, index as u8];
        let shown = carrier_attributes(true, 1, 0, SPEED);
        let fixed = fixed_attributes(index, address);
        for (name, mode, text) in fixed.iter().chain(&shown) {
            files.create(&format!("{directory}/{name}"), *mode, text.as_bytes())?;
        }
        let text = uevent(&name, index);
        files.create(&format!("{directory}/uevent"), READ_WRITE, text.as_bytes())?;
        for name in STATISTICS {
            files.create(&format!("{directory}/statistics/{name}"), READ_ONLY, b"0\n")?;
        }
        let below_sys = directory.strip_prefix("sys/").unwrap_or(&directory);
        let up = "../".repeat(below_sys.split('/').count());
        files.link(&format!("{directory}/device"), &format!("../../../{bdf}"))?;
        files.link(&format!("{directory}/subsystem"), &format!("{up}class/net"))?;
        let interface = Self {
            files: files.clone(),
            function: function.to_owned(),
            name,
            index,
            carrier: true,
            ups: 1,
            downs: 0,
            speed: SPEED,
            counted: ["rx_errors", "rx_crc_errors", "rx_dropped"].map(|name| (name, 0, 0)),
            shown,
            pending: VecDeque::new(),
        };
        interface.list()?;
        Ok(interface)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn has_carrier(&self) -> bool {
        self.carrier
    }

    fn directory(&self) -> String {
        format!("{}/net/{}", self.function, self.name)
    }

    /// The link by which it is found.
    fn list(&self) -> Result<(), HostError> {
        let directory = self.directory();
        let below_sys = directory.strip_prefix("sys/").unwrap_or(&directory);
        let link = format!("sys/class/net/{}", self.name);
        self.files.link(&link, &format!("../../{below_sys}"))
    }

    /// It is found no more.
    pub(crate) fn unlist(&self) -> Result<(), HostError> {
        self.files.remove(&format!("sys/class/net/{}", self.name))
    }

    /// It gets another name, as by udev.
    pub(crate) fn rename(&mut self, name: &str) -> Result<(), HostError> {
        if name == self.name {
            return Ok(());
        }
        self.unlist()?;
        let old = self.directory();
        name.clone_into(&mut self.name);
        self.files.rename(&old, &self.directory())?;
        let path = format!("{}/uevent", self.directory());
        let text = uevent(&self.name, self.index);
        self.files.replace(&path, READ_WRITE, text.as_bytes())?;
        self.list()
    }

    /// Its port negotiates another speed.
    pub(crate) fn set_speed(&mut self, mbit: u32) {
        self.speed = mbit;
    }

    /// So many frames more come in damaged.
    pub(crate) fn damage(&mut self, count: u32) {
        let [errors, crc, _] = &mut self.counted;
        errors.1 += u64::from(count);
        crc.1 += u64::from(count);
    }

    /// So many packets more are dropped.
    pub(crate) fn drop_packets(&mut self, count: u32) {
        let [.., dropped] = &mut self.counted;
        dropped.1 += u64::from(count);
    }

    /// Its driver is loaded anew: what it counted begins at zero.
    pub(crate) fn reload(&mut self) {
        (self.ups, self.downs) = (u64::from(self.carrier), 0);
        for (_, count, _) in &mut self.counted {
            *count = 0;
        }
    }

    /// The carrier is there and stays, at full speed.
    pub(crate) fn heal(&mut self) {
        self.pending.clear();
        self.speed = SPEED;
        self.set_carrier(true);
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

    /// Makes the next change of the carrier that is due. `false` when there is none.
    pub(crate) fn step(&mut self, now: Instant) -> bool {
        let due = self.pending.pop_front_if(|(at, _)| *at <= now);
        if let Some((_, carrier)) = due {
            self.set_carrier(carrier);
        }
        due.is_some()
    }

    fn set_carrier(&mut self, carrier: bool) {
        if carrier != self.carrier {
            self.carrier = carrier;
            self.ups += u64::from(carrier);
            self.downs += u64::from(!carrier);
        }
    }

    /// Has the files follow.
    pub(crate) fn refresh(&mut self) -> Result<(), HostError> {
        let directory = self.directory();
        for (name, count, shown) in &mut self.counted {
            if count != shown {
                let path = format!("{directory}/statistics/{name}");
                let text = format!("{count}\n");
                self.files.replace(&path, READ_ONLY, text.as_bytes())?;
                *shown = *count;
            }
        }
        let fresh = carrier_attributes(self.carrier, self.ups, self.downs, self.speed);
        for (shown, now) in self.shown.iter_mut().zip(fresh) {
            if *shown != now {
                let (name, mode, text) = &now;
                let path = format!("{directory}/{name}");
                self.files.replace(&path, *mode, text.as_bytes())?;
                *shown = now;
            }
        }
        Ok(())
    }
}

/// Name of the interface of a NIC when it appears.
pub(crate) fn default_name(index: usize) -> String {
    format!("eth{index}")
}

fn uevent(name: &str, index: usize) -> String {
    format!("INTERFACE={name}\nIFINDEX={}\n", index + 2)
}

fn fixed_attributes(index: usize, address: [u8; 6]) -> Vec<Attribute> {
    let ifindex = index + 2;
    let address = address.map(|byte| format!("{byte:02x}")).join(":");
    vec![
        ("addr_assign_type", READ_ONLY, "0\n".into()),
        ("addr_len", READ_ONLY, "6\n".into()),
        ("address", READ_ONLY, format!("{address}\n")),
        ("broadcast", READ_ONLY, "ff:ff:ff:ff:ff:ff\n".into()),
        ("dev_id", READ_ONLY, "0x0\n".into()),
        ("dev_port", READ_ONLY, "0\n".into()),
        ("dormant", READ_ONLY, "0\n".into()),
        // IFF_UP, IFF_BROADCAST, IFF_MULTICAST.
        ("flags", READ_WRITE, "0x1003\n".into()),
        ("ifindex", READ_ONLY, format!("{ifindex}\n")),
        ("iflink", READ_ONLY, format!("{ifindex}\n")),
        ("link_mode", READ_ONLY, "0\n".into()),
        ("mtu", READ_WRITE, "9000\n".into()),
        // NET_NAME_RENAMED.
        ("name_assign_type", READ_ONLY, "4\n".into()),
        ("tx_queue_len", READ_WRITE, "1000\n".into()),
        // ARPHRD_ETHER.
        ("type", READ_ONLY, "1\n".into()),
    ]
}

/// What follows the carrier. Without one the kernel knows neither speed nor duplex. What comes last is what others
/// look at first, so that they find the counts up to date.
fn carrier_attributes(carrier: bool, ups: u64, downs: u64, speed: u32) -> [Attribute; 7] {
    let (operstate, speed, duplex) = if carrier {
        ("up", speed.to_string(), "full")
    } else {
        ("down", "-1".to_owned(), "unknown")
    };
    [
        ("carrier_changes", READ_ONLY, format!("{}\n", ups + downs)),
        ("carrier_up_count", READ_ONLY, format!("{ups}\n")),
        ("carrier_down_count", READ_ONLY, format!("{downs}\n")),
        ("speed", READ_ONLY, format!("{speed}\n")),
        ("duplex", READ_ONLY, format!("{duplex}\n")),
        ("carrier", READ_WRITE, format!("{}\n", u8::from(carrier))),
        ("operstate", READ_ONLY, format!("{operstate}\n")),
    ]
}
